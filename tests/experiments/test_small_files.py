"""Files of trained networks: what a run on the digits writes."""

import pytest

from experiments import results, small_files


@pytest.mark.slow
def test_a_run(tmp_path):
    config = small_files.default_config()
    config.epochs, config.dimensions, config.rbd_dimensions, config.ranks = 3, (50, 200), 100, (2, 100)
    content = small_files.run(config, tmp_path)
    assert results.read_json(tmp_path / "results.json")["subspace"] == content["subspace"]
    for name in ("accuracy.png", "effective_ranks.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "network.rb").exists()

    sizes = {(point["dimensions"], point["bits"]): point["bytes"] for point in content["subspace"]}
    assert len(sizes) == 2 * 3
    assert sizes[200, 4] < sizes[200, 8] < sizes[200, 32]
    assert sizes[200, 32] - sizes[50, 32] == pytest.approx(4 * 150, abs=8)
    accuracies = {(point["rank"], point["bits"]): point["accuracy"] for point in content["truncated_svd"]}
    assert accuracies[100, 32] == content["sgd_accuracy"] > 0.8  # nothing is left out
    assert accuracies[2, 32] < content["sgd_accuracy"] - 0.1
    # D = 64 * 128 + 128 + 128 * 10 + 10, all of which is stored.
    whole = next(p["bytes"] for p in content["truncated_svd"] if (p["rank"], p["bits"]) == (100, 16))
    assert whole == 2 * content["parameters"] == 2 * 9610

    ranks = content["effective_ranks"]
    assert set(ranks["sgd"]) == set(ranks["rbd"]) == {"kernel 1, 64 x 128", "kernel 2, 128 x 10"}
    for kernel, limit in (("kernel 1, 64 x 128", 64), ("kernel 2, 128 x 10", 10)):
        assert len(ranks["sgd"][kernel]) == 1 + config.epochs
        assert ranks["sgd"][kernel][0] == pytest.approx(ranks["rbd"][kernel][0])  # of one initialisation
        assert all(1 <= rank <= limit for each in ranks.values() for rank in each[kernel])
        assert ranks["sgd"][kernel][-1] != ranks["rbd"][kernel][-1]
