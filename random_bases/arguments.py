"""What counts as a number in an argument: Python's and NumPy's scalars, but no truth values.

`integer`, `integers`, `number` and `positive` return an argument as Python's own numbers, or raise an error
that names it, its value and what is allowed.
"""

import math
from collections import abc
from typing import Any, List, Optional

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


def integer(name: str, value: Any, least: int, most: Optional[int] = None) -> int:
    """`value`, an int from `least` to `most`.

    Raises:
      TypeError: if it is no int.
      ValueError: if it is another one.
    """
    allowed = f"an int of at least {least}" if most is None else f"an int from {least} to {most}"
    if not is_int(value):
        raise TypeError(f"{name}={value!r} must be {allowed}.")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}={value!r} must be {allowed}.")
    return int(value)


def integers(name: str, values: Any, least: int, most: Optional[int] = None) -> List[int]:
    """`values`, at least one int from `least` to `most`.

    Raises:
      TypeError: if it is no list, tuple or array, or holds what is no int.
      ValueError: if it is empty, or holds other ones.
    """
    if isinstance(values, str) or not isinstance(values, (abc.Sequence, np.ndarray)):
        raise TypeError(f"{name}={values!r} must be a list of ints.")
    if not len(values):
        raise ValueError(f"{name}={values!r} must have at least one int.")
    return [integer(f"{name}[{i}]", value, least, most) for i, value in enumerate(values)]


def number(name: str, value: Any) -> float:
    """`value`, a finite number.

    Raises:
      TypeError: if it is no number.
      ValueError: if it is not finite.
    """
    if not is_number(value):
        raise TypeError(f"{name}={value!r} must be a number.")
    if not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be finite.")
    return float(value)


def positive(name: str, value: Any) -> float:
    """`value`, a finite number above 0; raises what `number` does."""
    if not number(name, value) > 0:
        raise ValueError(f"{name}={value!r} must be positive and finite.")
    return float(value)
