"""How scripts end: each kind of end has a status, and a line that names what it was."""

import pytest

from experiments import exit_status, results, training
from random_bases import averaging, locks


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (training.DivergedError("mean loss nan"), 3, "Diverged: mean loss nan"),
        (locks.InUseError("runs/a is in use"), 6, "In use: runs/a is in use"),
        (results.DamagedError("a.json is damaged"), 4, "Damaged: a.json is damaged"),
        (averaging.TrajectoryError("b is altered"), 4, "Damaged: b is altered"),
        (ValueError("config.epochs=0"), 2, "Refused: config.epochs=0"),
        (TypeError("config.epochs='0'"), 2, "Refused: config.epochs='0'"),
        (FileNotFoundError(2, "No such file", "c.npz"), 2, "Refused: [Errno 2] No such file: 'c.npz'"),
        (OSError(28, "No space left", "runs/a"), 5, "Files: [Errno 28] No space left: 'runs/a'"),
        (PermissionError(13, "Denied", "runs/a"), 5, "Files: [Errno 13] Denied: 'runs/a'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_have_a_status_and_a_line(error, status, line, capsys):
    @exit_status.reporting
    def main(argv):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err == line + "\n"


def test_what_nobody_foresaw_keeps_its_traceback():
    @exit_status.reporting
    def main(argv):
        return argv[0]["absent"]

    with pytest.raises(KeyError):
        main([{}])


def test_other_statuses_are_passed_on():
    assert exit_status.reporting(lambda argv: None)([]) == exit_status.FINISHED == 0
    assert exit_status.reporting(lambda argv: exit_status.SOME_FAILED)([]) == 7
