"""The checks of arguments, here and nowhere else: what a number is, and what is raised for anything else.

A value of another type is a TypeError, one of the right type that is not allowed a ValueError, both with the
sentence "name=value must be ...". Numbers are Python's and NumPy's, but no truth values; they are returned
as Python's own, which JSON has.
"""

import math
import random
from collections import abc
from typing import Any, Callable, List, Optional, Sequence

import numpy as np


def is_int(value: Any) -> bool:
    """Whether `value` is an int, or a NumPy integer, and not a bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether `value` is an int or a float, or NumPy's, and not a bool."""
    return is_int(value) or isinstance(value, (float, np.floating))


def plain(value: Any) -> Any:
    """NumPy's arrays and scalars as lists and numbers, which JSON has; anything else as it is."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def check(allowed: bool, name: str, value: Any, what: str, error: type = ValueError) -> None:
    """Raises `error`, "name=value must be <what>.", unless `allowed`."""
    if not allowed:
        raise error(f"{name}={value!r} must be {what}.")


def integer(name: str, value: Any, least: int, most: Optional[int] = None) -> int:
    """`value`, an int from `least` to `most`.

    Raises:
      TypeError: if it is no int.
      ValueError: if it is another one.
    """
    what = f"an int of at least {least}" if most is None else f"an int from {least} to {most}"
    check(is_int(value), name, value, what, TypeError)
    check(value >= least and (most is None or value <= most), name, value, what)
    return int(value)


def integers(name: str, values: Any, least: int, most: Optional[int] = None) -> List[int]:
    """`values`, at least one int from `least` to `most`.

    Raises:
      TypeError: if it is no list, tuple or array, or holds what is no int.
      ValueError: if it is empty, or holds other ones.
    """
    return [integer(f"{name}[{i}]", value, least, most) for i, value in enumerate(_listed(name, values))]


def number(name: str, value: Any, least: float = -math.inf) -> float:
    """`value`, a finite number of at least `least`.

    Raises:
      TypeError: if it is no number.
      ValueError: if it is not finite, or less.
    """
    check(is_number(value), name, value, "a number", TypeError)
    check(math.isfinite(value), name, value, "finite")
    check(value >= least, name, value, f"at least {least:g}")
    return float(value)


def numbers(name: str, values: Any) -> List[float]:
    """`values`, at least one finite number.

    Raises:
      TypeError: if it is no list, tuple or array, or holds what is no number.
      ValueError: if it is empty, or holds what is not finite.
    """
    return [number(f"{name}[{i}]", value) for i, value in enumerate(_listed(name, values))]


def positive(name: str, value: Any) -> float:
    """`value`, a finite number above 0; raises what `number` does."""
    check(number(name, value) > 0, name, value, "positive and finite")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """`value`, a number in (0, 1].

    Raises:
      TypeError: if it is no number.
      ValueError: if it is another one.
    """
    check(is_number(value), name, value, "a number in (0, 1]", TypeError)
    check(0 < value <= 1, name, value, "a number in (0, 1]")
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """`value`, True or False.

    Raises:
      TypeError: if it is neither.
    """
    check(isinstance(value, (bool, np.bool_)), name, value, "True or False", TypeError)
    return bool(value)


def one_of(name: str, value: Any, allowed: Sequence[str], otherwise: str = "") -> str:
    """`value`, one of some strings.

    Args:
      name, value: of the argument.
      allowed: the strings.
      otherwise: what else the caller takes, for the sentence: "or a Basis".

    Raises:
      TypeError: if it is no string.
      ValueError: if it is another one.
    """
    names = ", ".join([*map(repr, allowed), *([otherwise] if otherwise else [])])
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} must be a string; allowed: {names}.")
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; allowed: {names}.")
    return value


def optional(checked: Callable, name: str, value: Any, *limits: Any, otherwise: Any = None) -> Any:
    """`otherwise` if `value` is that, else what `checked(name, value, *limits)` returns.

    Example:
    >>> stop = optional(integer, "stop", stop, 1)
    >>> every = optional(integer, "every", every, 1, otherwise="epoch")

    Raises:
      TypeError, ValueError: as `checked` does; the sentence names `otherwise`, too.
    """
    if value is otherwise or isinstance(value, str) and value == otherwise:
        return value
    try:
        return checked(name, value, *limits)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{str(error)[:-1]}, or {otherwise!r}.") from None


def seed(value: Any) -> int:
    """`value`, an int in [0, 2**64), or for None one that Python's `random` draws.

    Whoever holds a seed keeps what this returns, so that a run without a seed can be repeated.

    Raises:
      TypeError: if it is neither.
      ValueError: if it is another int.
    """
    return random.randrange(2**31) if value is None else integer("seed", value, 0, 2**64 - 1)


def _listed(name: str, values: Any) -> Sequence:
    is_list = isinstance(values, (abc.Sequence, np.ndarray)) and not isinstance(values, str)
    check(is_list, name, values, "a list, a tuple or an array", TypeError)
    if not len(values):
        raise ValueError(f"{name}={values!r} must have at least one entry.")
    return values
