import numpy as np
import pytest

from random_bases import arguments


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)], ids=["int", "int64", "uint8"])
def test_integers_become_pythons(value):
    assert type(arguments.integer("n", value, 1, 3)) is int
    assert arguments.integers("n", [value, 1], 1) == [3, 1]
    assert arguments.positive("n", value) == 3.0


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float16(0.5)], ids=repr)
def test_numbers_become_pythons(value):
    assert type(arguments.number("r", value)) is float
    assert arguments.positive("r", value) == 0.5


@pytest.mark.parametrize("value", [True, np.bool_(True), "3", None, 3.0, np.array([3])], ids=repr)
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="n=.* must be an int from 1 to 4"):
        arguments.integer("n", value, 1, 4)
    with pytest.raises(TypeError, match=r"n\[1\]=.* must be an int of at least 1"):
        arguments.integers("n", [1, value], 1)


@pytest.mark.parametrize("value", [True, np.bool_(True), "3", None, 3j, np.array([3])], ids=repr)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="r=.* must be a number"):
        arguments.positive("r", value)


def test_what_is_out_of_range_is_refused():
    for value in (0, np.int64(5)):
        with pytest.raises(ValueError, match=f"n=.*{value}.* must be an int from 1 to 4"):
            arguments.integer("n", value, 1, 4)
    for value in (float("nan"), np.float32("inf")):
        with pytest.raises(ValueError, match="r=.* must be finite"):
            arguments.positive("r", value)
    with pytest.raises(ValueError, match="r=-0.5 must be positive"):
        arguments.positive("r", -0.5)
    with pytest.raises(ValueError, match=r"n=\[\] must have at least one"):
        arguments.integers("n", [], 1)
    with pytest.raises(TypeError, match="n='12' must be a list"):
        arguments.integers("n", "12", 1)
