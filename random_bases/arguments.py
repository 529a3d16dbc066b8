"""What counts as a number in an argument: Python's and NumPy's scalars, but no truth values."""

from typing import Any

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
