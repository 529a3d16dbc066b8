import numpy as np
import pytest

from random_bases.batches import stream

X = np.arange(24, dtype=np.float32).reshape(8, 3)
Y = np.arange(8, dtype=np.int32)


def first(x, y, **arguments):
    """The first batch of 4, in order, as NumPy arrays."""
    data = stream(x, y, **{"sample_weight": None, "batch_size": 4, "shuffle": False, "seed": 0, **arguments})
    return next(data.dataset_from(0, 1, 0).as_numpy_iterator())


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
