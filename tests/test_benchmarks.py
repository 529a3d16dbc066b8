import shutil

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.measure import Figure, alternate, compare
from benchmarks.yardstick import compile_sketch
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
