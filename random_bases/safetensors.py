"""Files of the safetensors format (https://huggingface.co/docs/safetensors), by its own library.

Named arrays and strings; nothing in them is executed.
"""

import os
from typing import Any, Dict, Mapping, Tuple

import numpy as np
import tensorflow as tf
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from random_bases import files

# The library itself knows bfloat16 and float8 as NumPy's only in its newer releases.
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


class SafetensorsError(ValueError):
    """A file that is not of this format, or does not have what is needed."""


def write(path: files.AnyPath, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> int:
    """Writes arrays, whole or not at all; returns the file's size in bytes.

    Args:
      path: of the file.
      arrays: by name; of floats, integers and booleans.
      metadata: further strings by name.

    Raises:
      ValueError: for an array of another dtype.
      OSError: if it cannot be written.
    """
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES.values():
            allowed = sorted(_DTYPES.values())
            raise ValueError(f"arrays[{name!r}] has dtype {array.dtype.name}; allowed: {allowed}.")
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    content = save(contiguous, dict(metadata) or None)
    files.write(path, content)
    return len(content)


def read(path: files.AnyPath) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """The arrays and the metadata of a file.

    Raises:
      SafetensorsError: if it is not of this format, or damaged.
      OSError: if it cannot be read.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        content = file.read()
    try:
        entries = dict(deserialize(content))
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
        return {name: _array(name, entry) for name, entry in entries.items()}, metadata
    except (SafetensorError, SafetensorsError) as error:
        raise SafetensorsError(f"path={path!r} is no file of safetensors, or damaged: {error}") from error


def _array(name: str, entry: Dict[str, Any]) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        allowed = ", ".join(_DTYPES)
        raise SafetensorsError(f"array {name!r} has dtype {entry['dtype']!r}; allowed: {allowed}.")
    dtype = np.dtype(tf.as_dtype(_DTYPES[entry["dtype"]]).as_numpy_dtype)
    array = np.frombuffer(entry["data"], dtype.newbyteorder("<")).astype(dtype, copy=False)
    return array.reshape(entry["shape"])
