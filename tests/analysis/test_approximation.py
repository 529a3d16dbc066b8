import numpy as np
import pytest
import tensorflow as tf

from random_bases.analysis import approximation


def test_hadamard_reaches_the_gradient_at_d_equal_to_n():
    g = [tf.constant(np.random.RandomState(0).normal(size=(20, 16)), tf.float32)]
    points = approximation.cosines(g, [20, 80, 320], "hadamard", draws=10)
    assert [point.expected for point in points] == pytest.approx([0.25, 0.5, 1.0])
    assert min(points[-1].cosines) > 1 - 1e-5
    for point in points[:2]:
        cosines = np.array(point.cosines)
        assert len(set(point.cosines)) == 10
        # E[cos^2] = d / n.
        squares = cosines**2
        error = squares.std(ddof=1) / np.sqrt(10)
        assert abs(squares.mean() - point.expected**2) < 5 * error


def test_decades():
    assert approximation.decades(1000, per_decade=1) == [10, 100, 1000]
    assert approximation.decades(1500, per_decade=2) == [10, 32, 100, 316, 1000, 1500]
    assert approximation.decades(10**5, per_decade=2)[-2:] == [31623, 10**5]


def test_learning_rate_is_that_of_sgd_at_d_equal_to_the_parameters():
    assert approximation.learning_rate(0.1, 1.0, 5000, 5000) == pytest.approx(0.1)
    assert approximation.learning_rate(0.1, 1.0, 1000, 5000) == pytest.approx(0.5)
    assert approximation.learning_rate(0.1, 1.0, 10, 5000) == 1.0


def test_learning_rates_that_are_refused():
    with pytest.raises(ValueError, match="dimensions=11 must be an int from 1 to 10"):
        approximation.learning_rate(0.1, 1.0, 11, 10)
    with pytest.raises(ValueError, match="most=0"):
        approximation.learning_rate(0.1, 0, 5, 10)
    with pytest.raises(ValueError, match="sgd_rate=nan"):
        approximation.learning_rate(float("nan"), 1.0, 5, 10)
    with pytest.raises(TypeError, match="sgd_rate=True must be a number"):
        approximation.learning_rate(True, 1.0, 5, 10)


@pytest.mark.parametrize("arguments", [(10, 2, 10), (10, 2, 0), (10, 0, 1)], ids=str)
def test_decades_that_are_refused(arguments):
    with pytest.raises(ValueError, match="(smallest|largest|per_decade)=.* must be an int of at least"):
        approximation.decades(*arguments)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="draws=0"):
        approximation.cosines([tf.ones(4)], [1], draws=0)
    with pytest.raises(TypeError, match="draws='a' must be an int"):
        approximation.cosines([tf.ones(4)], [1], draws="a")
    with pytest.raises(ValueError, match=r"dimensions\[1\]=5 must be an int from 1 to 4"):
        approximation.cosines([tf.ones(4)], [1, 5])


def test_numbers_of_numpy_are_numbers():
    by_numpy = approximation.cosines([tf.ones(4)], np.array([1, 3]), draws=np.int32(2), seed=np.int64(1))
    assert by_numpy == approximation.cosines([tf.ones(4)], [1, 3], draws=2, seed=1)
    assert approximation.decades(np.int64(50), np.int64(1)) == approximation.decades(50, 1)
    rate = approximation.learning_rate(np.float32(0.5), np.float32(2.0), np.int64(5), np.int64(10))
    assert rate == approximation.learning_rate(0.5, 2.0, 5, 10)
