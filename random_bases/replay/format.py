"""A training run as its coordinates: a log from which the weights of every step can be rebuilt.

A seed regenerates the directions, so a run is theta0 and the d numbers by which each step moved along
them: no data and no gradients are needed to repeat it (Gressmann et al. 2020, section 3.3: what
workers exchange). A late joiner or an auditor needs theta0, which a seed gives, and this file.

The file, all little-endian: 8 bytes of magic; the length of the header, 4 bytes; the header, JSON in
UTF-8; its SHA-256; then records, each followed by the first 16 bytes of the SHA-256 of the record and
of the one before it, so that none can be altered, removed or exchanged unnoticed:

| kind, 1 byte | then                                                                                 |
| ------------ | ------------------------------------------------------------------------------------ |
| `S`, a step  | its number, int64; the learning rate, float32 (NaN: a schedule); coordinates, float32 |
| `H`, a hash  | the number of steps made, int64; the SHA-256 of the weights then                      |
| `E`, the end | the number of steps made, int64                                                       |
"""

import hashlib
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from random_bases import arguments, files
from random_bases.replay import movers
from random_bases.tensors import size_of

MAGIC = b"RNDSTEPS"
FORMAT_VERSION = 1
DIGEST_SIZE = 16
# What a header must have, beside the version of the format and what `movers` has there.
_HEADER = {
    "stream_version": int,
    "keras": str,
    "shape": list,
    "variables": list,
    "theta0_sha256": str,
}


class ReplayError(ValueError):
    """A log does not fit the model or this version, or gives other weights than were recorded."""


class DamagedLogError(ReplayError):
    """A log is truncated or was altered. What is before the damage can be replayed: give `step`."""


class Record(NamedTuple):
    """A record of any kind, with what it holds: see the module."""

    kind: bytes
    step: int
    learning_rate: float = np.nan
    coordinates: np.ndarray = np.zeros(0, np.float32)
    digest: str = ""


class Log:
    """A log file: its checked header, and its records as far as they are whole."""

    def __init__(self, path: str):
        self._path = path
        with open(path, "rb") as file:
            self._content = file.read()
        if not self._content.startswith(MAGIC):
            raise DamagedLogError(f"log={path!r} is not a file that ReplayLog wrote.")
        end = files.end_of_header(self._content, MAGIC)
        self._begin = end + files.HASH_SIZE
        digest = hashlib.sha256(self._content[:end]).digest()
        if self._content[end : self._begin] != digest:
            raise DamagedLogError(f"log={path!r} has a header that is truncated or was altered.")
        self._digest = digest[:DIGEST_SIZE]
        with files.shaped(f"log={path!r}", DamagedLogError):
            self.header = files.header(self._content, MAGIC)
            if self.header.get("format_version") != FORMAT_VERSION:
                raise ReplayError(
                    f"log={path!r} has format_version={self.header.get('format_version')!r}; this version: "
                    f"{FORMAT_VERSION}."
                )
            _check_header(self.header)
        floats = 1 + size_of(self.header["shape"])
        self._sizes = {b"S": 9 + 4 * floats, b"H": 9 + files.HASH_SIZE, b"E": 9}

    def _records(self) -> Iterator[Tuple[int, bytes, Record]]:
        """(end of the record in the file, chained digest, record) of each.

        Raises:
          DamagedLogError: at the first that is broken.
        """
        position, digest, index = self._begin, self._digest, 0
        while position < len(self._content):
            kind = self._content[position : position + 1]
            end = position + self._sizes.get(kind, 0)
            content = self._content[position:end]
            digest = chained(digest, content)
            if kind not in self._sizes or self._content[end : end + DIGEST_SIZE] != digest:
                raise DamagedLogError(
                    f"log={self._path!r} is truncated or was altered at record {index}, byte {position}."
                )
            (step,) = struct.unpack("<q", content[1:9])
            position, index = end + DIGEST_SIZE, index + 1
            if kind == b"E" and position < len(self._content):
                left = len(self._content) - position
                raise DamagedLogError(f"log={self._path!r} has {left} bytes after its end, byte {position}.")
            if kind == b"S":
                numbers = np.frombuffer(content, "<f4", offset=9)
                yield position, digest, Record(kind, step, float(numbers[0]), numbers[1:])
            else:
                yield position, digest, Record(kind, step, digest=content[9:].hex())

    def upto(self, step: Optional[int]) -> List[Record]:
        """The step and hash records of the first `step` steps; of all, of a log with an end, for None."""
        step = arguments.optional(arguments.integer, "step", step, 0)
        kept: List[Record] = []
        made = 0
        try:
            for _, _, record in self._records():
                if record.kind == b"E":
                    if step is None:
                        return kept
                    continue
                if step is not None and record.step + (record.kind == b"S") > step:
                    return kept
                kept.append(record)
                made += record.kind == b"S"
        except DamagedLogError as error:
            if step is not None and made >= step:
                return kept
            raise DamagedLogError(f"{error} The {made} steps before are whole: give step={made}.") from None
        if step is None:
            raise DamagedLogError(
                f"log={self._path!r} has no end: it was truncated, or its training was ended by force. The "
                f"{made} steps that it holds are whole: give step={made}."
            )
        if made < step:
            raise ValueError(f"step={step} is more than the {made} steps in log={self._path!r}.")
        return kept

    def cut(self, step: int) -> Tuple[int, bytes, str]:
        """Of the last record of the first `step` steps: end, chained digest, hash of the weights or ""."""
        end, digest, weights, made = self._begin, self._digest, "", 0
        try:
            for position, after, record in self._records():
                if record.kind == b"E" or record.step + (record.kind == b"S") > step:
                    break
                end, digest, weights = position, after, record.digest
                made += record.kind == b"S"
        except DamagedLogError:
            if made < step:
                raise
        if made < step:
            raise ReplayError(f"path={self._path!r} has {made} steps, but the optimizer has made {step}.")
        return end, digest, weights


def _check_header(header: Dict[str, Any]) -> None:
    """Raises for what no `ReplayLog` wrote: whoever made a log can have made its hashes."""
    mover = movers.of_header(header)
    for name, kind in {**_HEADER, **mover.KEYS}.items():
        arguments.check(isinstance(header[name], kind), name, header[name], f"of {kind}", TypeError)
    arguments.integers("shape", header["shape"], 1)
    arguments.check(len(header["shape"]) == 2, "shape", header["shape"], "two ints")
    mover.check(header)


def chained(digest: bytes, content: bytes) -> bytes:
    """The digest of a record after the one of this digest."""
    return hashlib.sha256(digest + content).digest()[:DIGEST_SIZE]


def hash_of(variables: Sequence) -> str:
    """The SHA-256 of variables' values."""
    return files.sha256_of_arrays((np.asarray(v.numpy()) for v in variables), described=False)
