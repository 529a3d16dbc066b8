import json

import pytest

from experiments.paper import runs

SERIES = runs.series("fc_mnist", "rbd", basis="hadamard", learning_rate=0.125)


def leave(workdir, seed, accuracies, asked, status=None, series=SERIES):
    """What a run of `asked` epochs leaves that has got to the end of `accuracies`."""
    directory = runs.Run(series, asked, seed).directory(workdir)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"epochs": asked, "seed": seed}))
    rows = [f"{i},{value / 2},{value}" for i, value in enumerate(accuracies)]
    (directory / "metrics.csv").write_text("\n".join(["epoch,accuracy,val_accuracy", *rows]) + "\n")
    if status:
        result = {"status": status, "config": {"epochs": asked}}
        (directory / "result.json").write_text(json.dumps(result))


def test_names_say_what_differs():
    assert SERIES.name == "rbd-hadamard-learning_rate=0.125"
    assert runs.series("fc_mnist", "sgd").name == "sgd"
    assert runs.series("fc_mnist", "rbd", workers=4, basis="normal").name == "rbd-normal-workers=4"
    assert runs.series("fc_mnist", "sgd", augment=False) == runs.series("fc_mnist", "sgd", augment=False)


def test_states(tmp_path):
    run = SERIES.runs(epochs=3, seeds=1)[0]
    assert runs.state(run, tmp_path) == runs.State("left", 0)
    leave(tmp_path, 0, [0.5, 0.6, 0.7], asked=3)
    assert runs.state(run, tmp_path) == runs.State("left", 3)  # killed before it wrote its result
    (run.directory(tmp_path) / "result.json").write_text('{"status": "finished", "config": {"epochs": 3}}')
    assert runs.state(run, tmp_path) == runs.State("finished", 3)
    assert runs.state(run._replace(epochs=2), tmp_path) == runs.State("finished", 3)
    assert runs.state(run._replace(epochs=4), tmp_path) == runs.State("left", 3)


def test_a_longer_run_under_way_has_what_a_shorter_one_would_give(tmp_path):
    leave(tmp_path, 0, [0.5, 0.6, 0.7], asked=10)
    assert runs.state(runs.Run(SERIES, 3, 0), tmp_path).status == "finished"
    assert runs.state(runs.Run(SERIES, 4, 0), tmp_path).status == "left"


def test_a_diverged_run_is_not_left(tmp_path):
    leave(tmp_path, 0, [0.1], asked=5, status="diverged")
    assert runs.state(runs.Run(SERIES, 5, 0), tmp_path) == runs.State("diverged", 1)
    assert runs.measured(SERIES, tmp_path) == runs.Measured(
        0, (), (), (), pytest.approx(float("nan"), nan_ok=True), (0,)
    )


def test_measured_takes_the_seeds_that_got_furthest(tmp_path):
    assert runs.measured(SERIES, tmp_path).epochs == 0
    leave(tmp_path, 0, [0.5, 0.6, 0.8], asked=3, status="finished")
    leave(tmp_path, 1, [0.3, 0.4], asked=3)
    leave(tmp_path, 2, [0.5, 0.6, 0.9], asked=3, status="finished")
    found = runs.measured(SERIES, tmp_path)
    assert (found.epochs, found.accuracies, found.seeds) == (3, (0.8, 0.9), (0, 2))
    assert found.mean == pytest.approx(0.85)
    assert found.deviation == pytest.approx(0.05 * 2**0.5)
    assert found.curve == pytest.approx((0.5, 0.6, 0.85))
    assert found.training == pytest.approx(0.425)
    earlier = runs.measured(SERIES, tmp_path, epochs=2)
    assert earlier.accuracies == (0.6, 0.4, 0.6)
    assert runs.measured(SERIES, tmp_path, epochs=1).deviation == pytest.approx(0.1155, abs=1e-4)


def test_common_epochs_leave_out_what_has_not_begun(tmp_path):
    other = runs.series("fc_mnist", "sgd")
    leave(tmp_path, 0, [0.5, 0.6, 0.8], asked=3)
    assert runs.common_epochs([SERIES, other], tmp_path) == 3
    leave(tmp_path, 0, [0.9], asked=3, series=other)
    assert runs.common_epochs([SERIES, other], tmp_path) == 1


def test_accuracy_line_has_the_points_that_got_so_far(tmp_path):
    other = runs.series("fc_mnist", "sgd")
    leave(tmp_path, 0, [0.5, 0.6], asked=2)
    leave(tmp_path, 0, [0.9], asked=2, series=other)
    line = runs.accuracy_line("a", [(1, SERIES), (10, other)], tmp_path, epochs=2)
    assert (line["x"], line["y"], line["deviation"]) == ([1], [60.0], [None])
