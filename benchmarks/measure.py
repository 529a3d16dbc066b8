"""Measuring: medians of things run alternately, peak memory of processes, the machine."""

import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from random_bases.keras_api import keras

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


def peak_megabytes() -> float:
    """The largest resident memory that this process has had, or has had since `forget_peak`."""
    return _megabytes("VmHWM")


def forget_peak() -> None:
    """Gives free memory back to the system, and has `peak_megabytes` begin anew (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def resident_megabytes() -> float:
    """The resident memory that this process has."""
    return _megabytes("VmRSS")


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def machine() -> Dict[str, Any]:
    """What the figures were measured on."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "avx512": "avx512f" in flags,
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }
