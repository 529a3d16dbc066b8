"""Files of safetensors: as its specification says, in bytes; what is damaged is refused by name."""

import json

import numpy as np
import pytest
import tensorflow as tf

from random_bases import safetensors
from random_bases.safetensors import SafetensorsError

BFLOAT16 = tf.bfloat16.as_numpy_dtype
ARRAYS = {
    "a.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flag": np.array(True),
    "half": np.array([1.5, -2.0]).astype(BFLOAT16),
    "none": np.zeros([0, 4], np.int8),
    "number": np.array([-1, 2**40]),
}


def test_a_file_is_as_the_specification_says(tmp_path):
    path = tmp_path / "x.safetensors"
    size = safetensors.write(path, {"b": np.array([[1.0, 2.0]], np.float32)}, {"key": "value"})
    content = path.read_bytes()
    assert len(content) == size
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "__metadata__": {"key": "value"},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
    }
    assert content[8 + length :] == bytes([0, 0, 0x80, 0x3F, 0, 0, 0, 0x40])


def test_arrays_come_back(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.write(path, ARRAYS, {})
    found, metadata = safetensors.read(path)
    assert metadata == {} and set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_other_dtypes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"arrays\['c'\] has dtype complex64"):
        safetensors.write(tmp_path / "x", {"c": np.zeros(1, np.complex64)}, {})
    assert not list(tmp_path.iterdir())


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": ENTRY}, b"1234567"),
        ({"a": ENTRY}, b"123456789"),
        ({"a": ENTRY, "b": ENTRY}, b"12345678"),
        ({"a": {**ENTRY, "shape": [3]}}, b"12345678"),
        ({"a": {**ENTRY, "shape": [-2, -1]}}, b"12345678"),
        ({"a": {**ENTRY, "shape": "2"}}, b"12345678"),
        ({"a": {**ENTRY, "dtype": "F33"}}, b"12345678"),
        ({"a": {**ENTRY, "data_offsets": [1, 9]}}, b"123456789"),
        ({"a": {"dtype": "F32"}}, b""),
        ({"a": 3}, b""),
        ([], b""),
        (3, b""),
    ],
    ids=str,
)
def test_what_is_damaged_or_forged_is_refused_by_name(tmp_path, header, data):
    path = tmp_path / "forged.safetensors"
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    with pytest.raises(SafetensorsError, match="path='.*forged.safetensors'"):
        safetensors.read(path)


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 9, (2).to_bytes(8, "little") + b"\xff\xff"])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorsError, match="path='.*other.safetensors'"):
        safetensors.read(path)
