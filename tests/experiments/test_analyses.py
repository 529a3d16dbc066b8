import pytest

from experiments import analyses, results
from random_bases import locks
from tests.lock_holder import holding


def test_orthogonality_is_written_once_and_drawn_again(tmp_path):
    config = analyses.default_config()
    config.sizes = (64,)
    found = analyses.run(config, tmp_path, ["orthogonality"])["orthogonality"]
    assert found["data"]["theory"] == {"64": 0.125}
    deviations = found["data"]["root_mean_square_cosine"]
    assert deviations["normal"]["64"] == pytest.approx(0.125, rel=0.2)
    assert deviations["hadamard"]["64"] < 1e-6
    assert "command" in found and found["config"]["seed"] == 0
    figure = tmp_path / "orthogonality.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    # What is there is not run again, but drawn.
    path = tmp_path / "orthogonality.json"
    results.write_json(path, {**found, "mark": 1})
    figure.unlink()
    assert analyses.run(config, tmp_path, ["orthogonality"])["orthogonality"]["mark"] == 1
    assert figure.exists()


@pytest.mark.slow
def test_all_analyses_of_digits(tmp_path):
    config = analyses.default_config()
    config.epochs, config.points, config.sizes = 5, 5, (64,)
    found = {name: content["data"] for name, content in analyses.run(config, tmp_path).items()}
    assert set(found) == set(analyses.NAMES)
    last = found["approximation"]["points"][-1]
    assert last["dimensions"] == found["approximation"]["parameters"]
    assert last["learning_rate"] == pytest.approx(0.1)
    # At d = D the basis is a rotation: the run is SGD's, but for rounding.
    assert abs(last["test_accuracy"] - found["approximation"]["sgd_test_accuracy"]) < 0.02
    assert max(found["curvature"]["top_eigenvalues"]) >= max(found["curvature"]["random"])
    assert found["landscape"]["lines"][0][2] == pytest.approx(found["landscape"]["plane"][2][2], rel=1e-5)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"only=\['curves'\] is unknown"):
        analyses.run(analyses.default_config(), tmp_path, ["curves"])
    config = analyses.default_config()
    config.points = 0
    with pytest.raises(ValueError, match="config.points=0"):
        analyses.run(config, tmp_path)
    config.points = 21
    for key, value in (
        ("network", "rnn"),
        ("dataset", "imagenet"),
        ("dimensions", 9611),
        ("batch_size", 5000),
    ):
        wrong = config.copy_and_resolve_references()
        wrong[key] = value
        with pytest.raises(ValueError, match=str(value)):
            analyses.run(wrong, tmp_path)
    assert not list(tmp_path.iterdir())
    with holding(tmp_path), pytest.raises(locks.InUseError, match=f"^{tmp_path} is in use"):
        analyses.run(config, tmp_path, [])
    analyses.run(config, tmp_path, [])
    config.seed = 1
    with pytest.raises(ValueError, match="seed: 0 != 1"):
        analyses.run(config, tmp_path, [])
