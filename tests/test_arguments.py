import random

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


def test_numbers_have_a_least():
    assert arguments.number("r", 0.0, 0) == 0.0 and arguments.numbers("r", (1, 0.5)) == [1.0, 0.5]
    with pytest.raises(ValueError, match="r=-1 must be at least 0"):
        arguments.number("r", -1, 0)
    with pytest.raises(TypeError, match=r"r\[1\]='2' must be a number"):
        arguments.numbers("r", [1, "2"])


def test_fractions_are_above_0_and_at_most_1():
    assert arguments.fraction("f", 1) == 1.0 and arguments.fraction("f", np.float32(0.5)) == 0.5
    for value in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"f={value} must be a number in \(0, 1\]"):
            arguments.fraction("f", value)
    with pytest.raises(TypeError, match="f=True must be a number"):
        arguments.fraction("f", True)


def test_choices_and_truth_values():
    assert arguments.one_of("s", "a", ("a", "b")) == "a" and arguments.boolean("b", np.bool_(True)) is True
    with pytest.raises(ValueError, match="s='c' is unknown; allowed: 'a', 'b', or a Basis"):
        arguments.one_of("s", "c", ("a", "b"), "or a Basis")
    for refused in (lambda: arguments.one_of("s", 1, ("a",)), lambda: arguments.boolean("s", 1)):
        with pytest.raises(TypeError, match="s=1 must be"):
            refused()


def test_optional_arguments_name_the_alternative():
    assert arguments.optional(arguments.integer, "n", None, 1) is None
    assert arguments.optional(arguments.integer, "n", "epoch", 1, otherwise="epoch") == "epoch"
    assert arguments.optional(arguments.integer, "n", 3, 1) == 3
    with pytest.raises(TypeError, match="n=2.5 must be an int from 1 to 4, or None[.]"):
        arguments.optional(arguments.integer, "n", 2.5, 1, 4)
    with pytest.raises(ValueError, match="n=0 must be an int of at least 1, or 'epoch'[.]"):
        arguments.optional(arguments.integer, "n", 0, 1, otherwise="epoch")
    with pytest.raises(TypeError, match="n=None must be"):
        arguments.optional(arguments.integer, "n", None, 1, otherwise="epoch")


def test_seeds_are_drawn_where_none_is_given():
    random.seed(3)
    expected = random.randrange(2**31)
    random.seed(3)
    assert arguments.seed(None) == expected and arguments.seed(np.uint64(2**64 - 1)) == 2**64 - 1
    with pytest.raises(TypeError, match="seed=1.0 must be an int"):
        arguments.seed(1.0)
    with pytest.raises(ValueError, match="seed=-1 must be an int from 0"):
        arguments.seed(-1)
