"""Files of the safetensors format: named arrays, and nothing that is executed.

In order: the header's length, 8 bytes, little-endian; the header, JSON in UTF-8, of each array's dtype, shape
and place, and `__metadata__`, strings; the arrays, row-major and little-endian, without gaps.
https://huggingface.co/docs/safetensors
"""

import json
import math
import os
from typing import Any, Dict, Mapping, Tuple

import numpy as np
import tensorflow as tf

from random_bases import files

_NAMES = {
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
_CODES = {name: code for code, name in _NAMES.items()}
_LONGEST_HEADER = 100_000_000  # bytes, as in the reference implementation
_METADATA = "__metadata__"


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
    header: Dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    parts, begin = [], 0
    for name, array in arrays.items():
        code = _CODES.get(array.dtype.name)
        if code is None:
            raise ValueError(f"arrays[{name!r}] has dtype {array.dtype.name}; allowed: {sorted(_CODES)}.")
        part = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        end = begin + len(part)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
        parts.append(part)
        begin = end
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)  # so that the arrays are aligned
    content = len(encoded).to_bytes(8, "little") + encoded + b"".join(parts)
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
    with files.shaped(f"path={path!r}", SafetensorsError):
        end = 8 + int.from_bytes(content[:8], "little")
        if len(content) < 8 or end > min(len(content), 8 + _LONGEST_HEADER):
            raise ValueError(f"a header of {end - 8} bytes in a file of {len(content)}.")
        header = json.loads(content[8:end].decode("utf-8"))
        metadata = header.pop(_METADATA, {})
        data = memoryview(content)[end:]
        places = sorted(entry["data_offsets"] for entry in header.values())
        if [0, *(place[1] for place in places)] != [*(place[0] for place in places), len(data)]:
            raise ValueError("its arrays do not follow one another from the header to the file's end.")
        return {name: _array(entry, data) for name, entry in header.items()}, dict(metadata)


def _array(entry: Dict[str, Any], data: memoryview) -> np.ndarray:
    if entry["dtype"] not in _NAMES:
        raise ValueError(f"dtype {entry['dtype']!r} is not known.")
    dtype = np.dtype(tf.as_dtype(_NAMES[entry["dtype"]]).as_numpy_dtype)
    begin, end = entry["data_offsets"]
    if min(entry["shape"], default=0) < 0 or math.prod(entry["shape"]) * dtype.itemsize != end - begin:
        raise ValueError(f"an array of shape {entry['shape']} has {end - begin} bytes.")
    array = np.frombuffer(data[begin:end], dtype.newbyteorder("<")).astype(dtype, copy=False)
    return array.reshape(entry["shape"])
