"""Locks between processes."""

import errno
import fcntl
import os
import warnings

import pytest

from random_bases import locks
from tests.lock_holder import holding


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_second_process_is_refused_until_the_first_is_killed(what, tmp_path):
    path = tmp_path if what == "directory" else tmp_path / "run.log"
    with holding(path) as holder:
        with pytest.raises(locks.InUseError, match=f"^{path} is in use: another process"):
            locks.take(path)
        holder.kill()  # SIGKILL
        holder.wait()
        locks.take(path).release()
    file = tmp_path / "lock" if what == "directory" else tmp_path / "run.log.lock"
    assert list(tmp_path.iterdir()) == [file]


def test_waiting(tmp_path):
    with holding(tmp_path, seconds=0.5):
        with locks.held(tmp_path, seconds=30.0):
            pass
        with holding(tmp_path):  # it was released
            pass


def test_a_process_does_not_stand_in_its_own_way(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    with locks.held(tmp_path / "directory"):
        with locks.held(tmp_path / "link"):
            pass
        with pytest.raises(AssertionError), holding(tmp_path / "directory"):
            pass  # not reached: still taken
    with holding(tmp_path / "directory"):
        pass


def test_a_place_that_cannot_be_locked_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        locks.take(tmp_path / "file" / "run.log")
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: fail(errno.ENOSYS))  # as of Lustre without flock
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # newer filelocks warn of what they do then
        with pytest.raises((OSError, UserWarning), match="flock"):
            locks.take(tmp_path / "run.log")


def fail(number):
    raise OSError(number, os.strerror(number))
