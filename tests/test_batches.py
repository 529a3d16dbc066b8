import numpy as np
import pytest
import tensorflow as tf

from random_bases.batches import stream

X = np.arange(24, dtype=np.float32).reshape(8, 3)
Y = np.arange(8, dtype=np.int32)


def first(x, y, **arguments):
    """The first batch of 4, in order, as NumPy arrays."""
    data = stream(x, y, **{"sample_weight": None, "batch_size": 4, "shuffle": False, "seed": 0, **arguments})
    return next(data.dataset_from(0).as_numpy_iterator())


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_arrays_give_tuples(kind):
    (a, b), (c, d), w = first(kind([X, Y]), kind([Y, -X]), sample_weight=kind([Y, Y]))
    for found, expected in zip((a, b, c, d, *w), (X, Y, Y, -X, Y, Y)):
        np.testing.assert_array_equal(found, expected[:4])


def test_lists_of_numbers_are_arrays():
    x, y = first(X.tolist(), Y.tolist(), batch_size=np.int64(4))
    np.testing.assert_array_equal(x, X[:4])
    np.testing.assert_array_equal(y, Y[:4])
    x, y = first({"a": X.tolist(), "b": [X, Y]}, tuple(Y.tolist()))
    np.testing.assert_array_equal(x["a"], X[:4])
    np.testing.assert_array_equal(x["b"][1], Y[:4])


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (3, Y, "x=3 is a scalar"),
        (X, [[0], [0, 1]], "y is no array"),
        ([X, None], Y, r"x\[1\] is no array"),
        ([], Y, r"x=\[\] is empty"),
        ([X, Y[1:]], Y, r"lengths \[7, 8\]"),
    ],
    ids=["scalar", "ragged", "None", "empty", "lengths"],
)
def test_what_is_no_array_is_refused(x, y, match):
    with pytest.raises(ValueError, match=match):
        first(x, y)


def test_those_who_take_turns_have_batches_of_their_own_in_groups():
    x = np.arange(48, dtype=np.float32)
    arrays = stream(x, None, None, 4, True, 0)
    every = list(arrays.dataset_from(3).take(18).as_numpy_iterator())
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
    for data, batches in (
        (arrays, every),
        (stream(dataset, None, None, None, True, 0), [(x[4 * i : 4 * i + 4],) for i in range(12)]),
    ):
        for index in range(2):
            found = data.dataset_from(3, 2, index, each=3).take(6).as_numpy_iterator()
            pieces = [batches[i] for i in range(12) if i // 3 % 2 == index]
            np.testing.assert_array_equal([batch for (batch,) in found], [batch for (batch,) in pieces])
        for index in range(3):
            (first,), (second,) = data.dataset_from(3, 3, index, group=2).take(2).as_numpy_iterator()
            mine = [batch for (batch,) in batches[index::3]]
            np.testing.assert_array_equal(first, mine[:2])
            np.testing.assert_array_equal(second, mine[2:4])
