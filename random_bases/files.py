"""Files that are whole or absent, whatever kills the process that writes them; headers and hashes."""

import contextlib
import hashlib
import json
import os
import re
from typing import Any, BinaryIO, Dict, Iterable, Iterator, Type, Union

import numpy as np

AnyPath = Union[str, "os.PathLike[str]"]
HASH_SIZE = hashlib.sha256().digest_size


@contextlib.contextmanager
def naming(path: AnyPath) -> Iterator[None]:
    """Names `path` in an OSError that names no file, such as that of a write to a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextlib.contextmanager
def shaped(what: str, error: Type[ValueError]) -> Iterator[None]:
    """Turns what an unexpected content of a file raises into an `error` that names `what`, the file.

    Errors of the callers' own kinds pass as they are.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as found:
        plain = (ValueError, UnicodeDecodeError, json.JSONDecodeError)
        if isinstance(found, ValueError) and type(found) not in plain:
            raise
        raise error(f"{what} does not hold what it must: {type(found).__name__}: {found}") from found


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[BinaryIO]:
    """A file to be written, which takes the place of `path` once all that the block wrote is on disk.

    Until then it is `<path>.<process>.tmp`; a block that raises leaves nothing.

    Raises:
      OSError: if it cannot be written.
    """
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with naming(path), open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def remove_temporaries(what: AnyPath) -> None:
    """Removes what kills left of `replacing`, of the files in a directory or of one file.

    For a process that alone writes there: another's would be removed, too.
    """
    path = os.fspath(what)
    directory, name = (path, ".+") if os.path.isdir(path) else (os.path.dirname(path) or ".", None)
    pattern = re.compile(rf"{name or re.escape(os.path.basename(path))}\.\d+\.tmp")
    for found in os.listdir(directory):
        if pattern.fullmatch(found):
            os.remove(os.path.join(directory, found))


def write(path: AnyPath, content: Union[bytes, str]) -> None:
    """Writes `content`, strings as UTF-8, so that nobody ever sees part of it: see `replacing`."""
    with replacing(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def packed(magic: bytes, header: Dict[str, Any]) -> bytes:
    """The beginning of a file: `magic`; the header's length, 4 bytes, little-endian; the header as JSON."""
    encoded = json.dumps(header, default=float, separators=(",", ":")).encode("utf-8")
    return magic + len(encoded).to_bytes(4, "little") + encoded


def end_of_header(content: bytes, magic: bytes) -> int:
    """Where a header made by `packed` says that it ends, in a file that begins with `magic`."""
    begin = len(magic) + 4
    return begin + int.from_bytes(content[len(magic) : begin], "little")


def header(content: bytes, magic: bytes) -> Dict[str, Any]:
    """The header that `packed` made; of a file whose checksum has been found right.

    Raises:
      ValueError: if it is no JSON object; whoever made the file can have made its checksum.
    """
    found = json.loads(content[len(magic) + 4 : end_of_header(content, magic)].decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError("its header is no object of names and values.")
    return found


def sha256_of_file(path: AnyPath) -> str:
    """The SHA-256 of a file of any size, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_arrays(arrays: Iterable[np.ndarray], described: bool) -> str:
    """The SHA-256 of arrays one after the other, in hexadecimal digits.

    Args:
      arrays: their values in row-major order.
      described: whether each one's dtype and shape are hashed before it.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if described:
            digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
