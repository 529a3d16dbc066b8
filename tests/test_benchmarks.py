import shutil

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import feedback_accuracy
from benchmarks.measure import Figure, alternate, compare
from benchmarks.yardstick import compile_sketch
from experiments import datasets, results
from random_bases import bases
from random_bases.sampling import derive_key
from random_bases.sampling.seeds import SAMPLES, as_seed


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the yardstick is compiled with gcc")
@pytest.mark.parametrize(("name", "size"), [("normal", 1002), ("rademacher", 1024)])
def test_the_yardstick_draws_the_same_directions(name, size):
    # Else it would not be the limit of the same work.
    v = np.random.default_rng(0).normal(size=size).astype(np.float32)
    key = derive_key(as_seed(3), tf.constant(2), SAMPLES).numpy()
    c, moved = compile_sketch(name, size, dimensions=9)(v, key)
    expected_c, expected_moved = bases.get(name, size, 9).sketch(v, seed=3, draw=2)
    np.testing.assert_allclose(c, expected_c, atol=1e-5)
    np.testing.assert_allclose(moved, expected_moved, atol=1e-5)


def test_a_size_that_is_not_whole_blocks_is_refused():
    with pytest.raises(ValueError, match="size=65 must be a multiple of 64"):
        compile_sketch("rademacher", 65, 1)


def test_functions_are_called_alternately_and_once_more_before():
    calls = []
    medians = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=3)
    assert calls == ["a", "b"] * 4
    assert set(medians) == {"a", "b"}
    assert all(seconds >= 0 for seconds in medians.values())


@pytest.mark.parametrize(
    ("target", "reached"), [("<= 2", True), ("<= 1.9", False), (">= 2", True), (">= 2.1", False)]
)
def test_a_target_is_reached_or_not(target, reached):
    assert Figure("a", "b", 2.0, 1.0, "ms", 2.0, target).reached is reached


def test_times_become_ratios_either_way():
    times = {"ours": 0.002, "theirs": 0.001}
    assert compare("a", "b", times, "<= 1").ratio == 2.0
    faster = compare("a", "b", times, ">= 1", inverse=True)
    assert (faster.ratio, faster.value, faster.unit, faster.reached) == (0.5, 2.0, "ms", False)


def cases(*methods):
    dimensions = {"feedback": 500}
    return [
        feedback_accuracy.Case("fc", "digits", method, "SGD", 0.1, dimensions.get(method, 0), 2)
        for method in methods
    ]


@pytest.mark.slow
def test_brief_trainings_are_of_their_methods():
    data = datasets.load("digits")
    rows = [feedback_accuracy.run(case, data) for case in cases("sgd", "feedback", "powersgd")]
    parameters = 64 * 128 + 128 + 128 * 10 + 10
    assert [row["numbers"] for row in rows] == [parameters, 500, (64 + 128) + 128 + (128 + 10) + 10]
    assert all(row["validation_accuracy"] > 0.2 for row in rows)
    assert len({row["validation_loss"] for row in rows}) == 3


def test_what_has_a_row_is_not_run_again(tmp_path, monkeypatch):
    ran = []

    def run(case, data, trace):
        ran.append((case.method, data, trace))
        return {**case._asdict(), "numbers": 7, "validation_accuracy": 0.5}

    monkeypatch.setattr(feedback_accuracy, "run", run)
    for methods in (("sgd",), ("feedback", "sgd")):
        monkeypatch.setitem(feedback_accuracy.PARTS, "rates", lambda methods=methods: cases(*methods))
        feedback_accuracy.run_part("rates", tmp_path, str.upper)
    assert ran == [("sgd", "DIGITS", True), ("feedback", "DIGITS", True)]
    content = results.read_json(tmp_path / "rates.json")
    assert [row["method"] for row in content["rows"]] == ["feedback", "sgd"] and "cpu" in content["machine"]


def test_accuracy_is_drawn_against_bytes():
    numbers = {"feedback": (25, 250), "sgd": (1000,)}
    rows = [
        {"method": method, "numbers": number, "validation_accuracy": 0.5, "epochs": 5}
        for method, several in numbers.items()
        for number in several
    ]
    lines = feedback_accuracy.panel(rows)["lines"]
    assert [(line["label"], line["x"], line["style"]) for line in lines] == [
        ("RBD with error feedback", [100, 1000], "line"),
        ("SGD", [4000], "points"),
    ]
    assert lines[0]["y"] == [50, 50]
