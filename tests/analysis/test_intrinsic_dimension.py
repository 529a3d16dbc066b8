"""The search for the intrinsic dimension, on functions whose answer is known."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_bases.analysis import intrinsic_dimension


def step_at(exact, calls=None):
    """Accuracy 1 from `exact` on, 0 below."""

    def evaluate(dimensions, seed):
        if calls is not None:
            calls.append((dimensions, seed))
        return float(dimensions >= exact)

    return evaluate


@given(
    exact=st.integers(1, 200_000),
    start=st.lists(st.integers(1, 200_000), min_size=1, max_size=4),
    growth=st.floats(1.01, 8),
    resolution=st.floats(0.001, 1),
)
def test_a_step_is_found_to_the_resolution(exact, start, growth, resolution):
    calls = []
    found = intrinsic_dimension.search(step_at(exact, calls), 0.5, start, 200_000, [0], growth, resolution)
    assert exact <= found.dimensions
    if found.below is None:
        assert found.dimensions == exact == 1
    else:
        assert found.below < exact
        assert found.dimensions - found.below <= max(1, resolution * found.below)
    assert len(calls) == len(set(calls)) == len(found.evaluations)


def test_the_order_of_a_search():
    found = intrinsic_dimension.search(step_at(700), 0.9, [100], 10_000, [7], growth=2, resolution=0.1)
    assert [each.dimensions for each in found.evaluations] == [100, 200, 400, 800, 566, 673, 734]
    assert (found.dimensions, found.below, found.threshold) == (734, 673, 0.9)
    down = intrinsic_dimension.search(step_at(3), 0.9, [50], 10_000, [7], growth=4)
    assert [each.dimensions for each in down.evaluations] == [50, 12, 3, 1, 2]
    assert (down.dimensions, down.below) == (3, 2)


def test_seeds_are_averaged_and_all_is_recorded():
    def evaluate(dimensions, seed):
        return dimensions / 100 + (0.1, -0.3, 0.2)[seed]

    found = intrinsic_dimension.search(evaluate, 0.4, [10, 80], 100, [0, 1, 2], resolution=0.01)
    assert (found.dimensions, found.below) == (40, 39)
    first = found.curve()[0]
    assert first.dimensions == 10
    assert first.accuracies == pytest.approx((0.2, -0.2, 0.3))
    assert first.mean == pytest.approx(0.1)
    assert [point.dimensions for point in found.curve()] == sorted({e.dimensions for e in found.evaluations})
    assert all(len(point.accuracies) == 3 for point in found.curve())


def test_all_of_start_is_evaluated_and_narrows_the_bracket():
    found = intrinsic_dimension.search(step_at(300), 0.5, [800, 50, 290, 310, 50], 1000, [0])
    assert [each.dimensions for each in found.evaluations] == [50, 290, 310, 800]
    assert (found.dimensions, found.below) == (310, 290)


@pytest.mark.parametrize("noise, deviation", [(0.005, 1.1), (0.02, 1.4)])
def test_noise_moves_the_result_by_little(noise, deviation):
    """Accuracy 1 - exp(-d / 500) reaches 0.6 at d = 458; the mean of 3 seeds is off by noise / sqrt(3)."""
    exact = -500 * math.log(0.4)
    for trial in range(50):
        generator = random.Random(trial)

        def evaluate(dimensions, seed, generator=generator):
            return 1 - math.exp(-dimensions / 500) + generator.gauss(0, noise)

        found = intrinsic_dimension.search(evaluate, 0.6, [100], 100_000, resolution=0.05)
        assert exact / deviation < found.dimensions < exact * deviation * 1.05
        points = {point.dimensions: point.mean for point in found.curve()}
        assert points[found.dimensions] >= 0.6
        assert all(mean < 0.6 for d, mean in points.items() if d < found.dimensions)
        assert found.below == max(d for d in points if d < found.dimensions)


def test_a_function_that_is_not_monotone_ends():
    def evaluate(dimensions, seed):
        return random.Random(dimensions).random()

    found = intrinsic_dimension.search(evaluate, 0.5, [3], 10_000, [0], resolution=0.001)
    assert found.dimensions - found.below == 1


def test_a_threshold_that_nothing_reaches():
    found = intrinsic_dimension.search(lambda d, seed: d / 2000, 0.9, [100], 1000, [0])
    assert (found.dimensions, found.below) == (None, 1000)
    assert [each.dimensions for each in found.evaluations] == [100, 200, 400, 800, 1000]


def test_a_threshold_that_one_direction_reaches():
    found = intrinsic_dimension.search(lambda d, seed: 1.0, 0.9, [6], 1000, [0])
    assert (found.dimensions, found.below) == (1, None)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"threshold": math.nan}, "threshold=nan"),
        ({"start": []}, r"start=\[\]"),
        ({"start": [np.int64(0)]}, r"start\[0\]=.*0.* must be an int from 1 to 100"),
        ({"start": [50, 101]}, r"start\[1\]=101"),
        ({"seeds": []}, r"seeds=\[\]"),
        ({"seeds": [1, 1]}, r"seeds=\[1, 1\].*different"),
        ({"growth": 1.0}, "growth=1.0"),
        ({"growth": math.inf}, "growth=inf"),
        ({"resolution": 0.0}, "resolution=0.0"),
        ({"evaluate": lambda d, seed: math.nan}, r"evaluate\(10, 0\) gave nan"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),  # no address of a function
)
def test_what_is_refused(changes, message):
    arguments = {"evaluate": step_at(20), "threshold": 0.5, "start": [10], "largest": 100, **changes}
    with pytest.raises(ValueError, match=message):
        intrinsic_dimension.search(**arguments)


@pytest.mark.parametrize(
    "changes",
    [{"threshold": "a"}, {"start": [1.5]}, {"start": None}, {"largest": "a"}, {"growth": True}],
    ids=",".join,
)
def test_types_that_are_refused(changes):
    arguments = {"evaluate": step_at(20), "threshold": 0.5, "start": [10], "largest": 100, **changes}
    with pytest.raises(TypeError, match=f"{next(iter(changes))}.*=.* must be"):
        intrinsic_dimension.search(**arguments)


def test_numbers_of_numpy_are_numbers():
    plain = intrinsic_dimension.search(step_at(20), 0.5, [10], 100, [0, 1], 2.0, 0.5)
    numpys = np.float32(0.5), np.array([10]), np.int64(100), np.arange(2), np.float32(2.0), np.float32(0.5)
    assert intrinsic_dimension.search(step_at(20), *numpys) == plain
