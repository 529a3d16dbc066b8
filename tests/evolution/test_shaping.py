"""Fitness shaping: exact values, invariances, ties."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases.evolution import shaping

distinct = st.lists(st.integers(-1000, 1000), min_size=2, max_size=40, unique=True)


def ranks(values):
    return shaping.centered_ranks(tf.constant(values, tf.float32)).numpy()


def test_centered_ranks_run_from_minus_a_half_to_a_half():
    np.testing.assert_allclose(ranks([3.0, -1.0, 10.0, 4.0, 0.0]), [0, -0.5, 0.5, 0.25, -0.25])


@settings(deadline=None, max_examples=30)
@given(distinct)
def test_ranks_are_those_of_sorting(values):
    expected = np.argsort(np.argsort(values)) / (len(values) - 1) - 0.5
    np.testing.assert_allclose(ranks(values), expected, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(distinct)
def test_ranks_see_only_the_order(values):
    monotone = np.arctan(np.array(values) / 1000.0)
    np.testing.assert_array_equal(ranks(values), ranks(monotone))


def test_equals_share_their_ranks_so_that_all_equal_means_no_step():
    np.testing.assert_allclose(ranks([1.0, 1.0, 1.0]), np.zeros(3))
    np.testing.assert_allclose(ranks([5.0, 1.0, 5.0, 7.0]), [0.0, -0.5, 0.0, 0.5])


def test_what_is_not_a_number_is_worst():
    np.testing.assert_allclose(ranks([np.nan, 0.0, 1.0]), [-0.5, 0.0, 0.5])
    np.testing.assert_allclose(ranks([0.0, -np.inf, 1.0]), [0.0, -0.5, 0.5])


def test_normalized_has_mean_0_and_deviation_1():
    weights = shaping.normalized(tf.constant([1.0, 2.0, 6.0, -3.0])).numpy()
    assert weights.mean() == pytest.approx(0.0, abs=1e-6)
    assert weights.std() == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_array_equal(shaping.normalized(tf.ones([3])), np.zeros(3))


def test_raw_is_the_fitness():
    np.testing.assert_array_equal(shaping.raw(tf.constant([1.0, -2.0])), [1.0, -2.0])


def test_get():
    assert shaping.get("raw") is shaping.raw
    assert shaping.get(tf.abs) is tf.abs
    with pytest.raises(ValueError, match="fitness='rank' is unknown.*centered_ranks"):
        shaping.get("rank")
    with pytest.raises(TypeError, match="fitness=3 must be"):
        shaping.get(3)
