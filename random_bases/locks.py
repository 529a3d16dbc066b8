"""Locks on what one process at a time may write: a directory, or a file.

They end with their process, however that ends, on this machine and, where the file system passes locks on
(NFS since version 4; Lustre mounted with `flock`), on others that see the same directory.
"""

import contextlib
import errno
import os
from typing import Iterator

import filelock

from random_bases.files import AnyPath

IN_DIRECTORY = "lock"  # the name of a directory's lock file, in it


class InUseError(RuntimeError):
    """Another process is writing there."""


def take(what: AnyPath, seconds: float = 0.0) -> filelock.BaseFileLock:
    """Locks a directory, by a file `lock` in it, or a file, by `<file>.lock` beside it.

    Lock files stay: whoever removed one could take away another process's. A process may take again what it
    has taken, and then releases it as often.

    Args:
      what: a directory that exists; any other path is a file's.
      seconds: how long to wait for another process.

    Returns:
      The lock, to be given back by `release()`.

    Raises:
      InUseError: naming `what`, if another process has it.
      OSError: if the lock file cannot be written.
    """
    path = os.fspath(what)
    file = os.path.join(path, IN_DIRECTORY) if os.path.isdir(path) else f"{path}.lock"
    # By its real path, as one process must not find itself there under two names.
    lock = filelock.FileLock(os.path.realpath(file), thread_local=False, is_singleton=True)
    try:
        lock.acquire(timeout=seconds)
    except NotImplementedError as error:  # of filelock before 3.25; later ones warn, and mark the file
        raise OSError(errno.ENOSYS, f"the file system has no locks: {error}", file) from error
    except filelock.Timeout:
        raise InUseError(
            f"{path} is in use: another process is writing there, and has locked {file} (`fuser {file}` "
            "names it). Wait for its end, or choose another place."
        ) from None
    return lock


@contextlib.contextmanager
def held(what: AnyPath, seconds: float = 0.0) -> Iterator[None]:
    """As `take`, released at the end of the block."""
    lock = take(what, seconds)
    try:
        yield
    finally:
        lock.release()
