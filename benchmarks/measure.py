"""Measuring: medians of things run alternately, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


class Figure(NamedTuple):
    """One line of the table.

    Attributes:
      what: what was measured.
      against: what it was compared with.
      value: of the first, in `unit`.
      reference: of the second, in `unit`.
      unit: "ms", "MB" or "s".
      ratio: `value / reference`, or its inverse where that is what is wanted.
      target: what the ratio should be, e.g. "<= 2"; None where there is none.
    """

    what: str
    against: str
    value: float
    reference: float
    unit: str
    ratio: float
    target: Optional[str] = None

    @property
    def reached(self) -> Optional[bool]:
        """Whether the ratio is what it should be."""
        if self.target is None:
            return None
        relation, bound = self.target.split()
        return self.ratio <= float(bound) if relation == "<=" else self.ratio >= float(bound)


def compare(what: str, against: str, times: Dict[str, float], target: str, inverse: bool = False) -> Figure:
    """The figure of the first of two median times in seconds against the second."""
    value, reference = (1e3 * seconds for seconds in times.values())
    ratio = reference / value if inverse else value / reference
    return Figure(what, against, value, reference, "ms", ratio, target)


def alternate(
    functions: Dict[str, Callable[[], Any]],
    repeats: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> Dict[str, float]:
    """Median seconds of each function, called in turn, after one call of each that is not timed.

    `clock=time.process_time` counts what all threads of this process work, whatever else the machine does.
    """
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def in_process(module: str, *arguments: Any, python: str = sys.executable, path: str = "") -> Dict[str, Any]:
    """What `python -m module *arguments` prints as its last line, as JSON; `path` joins PYTHONPATH."""
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), path])),
    }
    command = [python, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.decode().strip().splitlines()[-1])
