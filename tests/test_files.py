import hashlib
import json

import numpy as np
import pytest

from random_bases import files


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    files.write(path, "old")
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    files.write(path, b"old")
    with pytest.raises(RuntimeError), files.replacing(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_kills_left_is_removed(tmp_path):
    left = ["a.json.7.tmp", "a.json.12345.tmp", "b.json.7.tmp"]
    kept = ["a.json", "7.tmp", "a.json.x.tmp", "a.json.7.tmp.old", "xa.json7.tmp"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    files.remove_temporaries(tmp_path / "a.json")
    assert {path.name for path in tmp_path.iterdir()} == {"b.json.7.tmp", *kept}
    files.remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/file'"):
        with files.replacing(tmp_path / "file"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"more")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="other"), files.naming(tmp_path):
        (tmp_path / "other").read_bytes()  # which is named


def test_headers_are_as_the_formats_say():
    header = {"a": [1, 2], "b": np.float32(0.5), "c": "ä"}
    content = files.packed(b"MAGIC", header)
    encoded = json.dumps({"a": [1, 2], "b": 0.5, "c": "ä"}, separators=(",", ":")).encode()
    assert content == b"MAGIC" + len(encoded).to_bytes(4, "little") + encoded
    assert files.header(content + b"rest", b"MAGIC") == {"a": [1, 2], "b": 0.5, "c": "ä"}
    assert files.end_of_header(content + b"rest", b"MAGIC") == len(content)


def test_hashes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * 2**20 + 1))
    assert files.sha256_of_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((), np.int64)]
    plain = b"".join(array.tobytes() for array in arrays)
    assert files.sha256_of_arrays(arrays, described=False) == hashlib.sha256(plain).hexdigest()
    described = b"float32(2, 3)" + arrays[0].tobytes() + b"int64()" + arrays[1].tobytes()
    assert files.sha256_of_arrays(arrays, described=True) == hashlib.sha256(described).hexdigest()
