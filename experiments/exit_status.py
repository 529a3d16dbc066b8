"""The exit statuses of scripts, and the one line that stands for a traceback.

| status | meaning                                                                                    |
| ------ | ------------------------------------------------------------------------------------------ |
| 0      | finished                                                                                   |
| 1      | an error that nobody foresaw, with Python's traceback; or flags that cannot be read        |
| 2      | refused: a configuration, an argument or data that are not possible                        |
| 3      | diverged: the loss became infinite or not a number                                         |
| 4      | damaged: what a run has left is not whole, or not its own                                  |
| 5      | a file cannot be read or written: no space, no permission, a read-only or broken disk      |
| 6      | in use: another process is writing there                                                   |
| 7      | of several runs, some failed or diverged                                                   |

`scripts/launch_workers.py` has its own: the status of the worker that failed.
"""

import functools
import sys
from typing import Callable, List, Optional

from experiments import results, training
from random_bases import averaging, locks

FINISHED = 0
REFUSED = 2
DIVERGED = 3
DAMAGED = 4
FILES = 5
IN_USE = 6
SOME_FAILED = 7

# The first that fits.
_ERRORS = (
    (training.DivergedError, DIVERGED, "Diverged"),
    (locks.InUseError, IN_USE, "In use"),
    (results.DamagedError, DAMAGED, "Damaged"),
    (averaging.TrajectoryError, DAMAGED, "Damaged"),
    (ValueError, REFUSED, "Refused"),
    (TypeError, REFUSED, "Refused"),
    (FileNotFoundError, REFUSED, "Refused"),
    (OSError, FILES, "Files"),
)


def reporting(main: Callable[[List[str]], Optional[int]]) -> Callable[[List[str]], int]:
    """`main` of a script, which says in a line what it was stopped by, and returns the status for that."""

    @functools.wraps(main)
    def reported(argv: List[str]) -> int:
        try:
            return main(argv) or FINISHED
        except tuple(kind for kind, _, _ in _ERRORS) as error:
            status, name = next((s, name) for kind, s, name in _ERRORS if isinstance(error, kind))
            print(f"{name}: {error}", file=sys.stderr)
            return status

    return reported
