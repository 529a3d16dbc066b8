import pytest

from experiments.paper import runs, sweep
from tests.experiments.paper.test_runs import leave


def test_the_best_rate_is_chosen_on_training_examples(tmp_path):
    which = sweep.series("fc_mnist", {"method": "rbd", "basis": "hadamard"}, [0, -2, -1])
    assert list(which) == [0.25, 0.5, 1.0]
    assert which[0.5] == runs.series("fc_mnist", "rbd", basis="hadamard", learning_rate=0.5)
    assert [run.epochs for run in sweep.plan(which, 3, 2)] == [3] * 6
    leave(tmp_path, 0, [0.5, 0.6], asked=2, series=which[0.25])
    leave(tmp_path, 0, [0.5, 0.8], asked=2, series=which[0.5])  # training: half of it
    leave(tmp_path, 0, [0.1], asked=2, status="diverged", series=which[1.0])
    content = sweep.content("title", which, tmp_path, epochs=2)
    assert content["best_by_training"] == 0.5 and content["diverged"] == [1.0]
    training, validation = content["panels"][0]["lines"]
    assert (training["x"], training["y"]) == ([0.25, 0.5], pytest.approx([30, 40]))
    assert validation["y"] == pytest.approx([60, 80])
