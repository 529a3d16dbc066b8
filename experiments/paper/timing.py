"""CPU time of a step, measured in one process: ratios of it go into figures."""

import time
from pathlib import Path
from typing import Any, Callable

from experiments import results

_STEPS = 40
_WARM_UP = 2  # the first one compiles


def cpu_milliseconds(step: Callable[[int], Any]) -> float:
    """The least CPU time, all threads together, of `step(2)`, `step(3)`, ...; two before warm up."""
    times = []
    for number in range(_WARM_UP + _STEPS):
        begin = time.process_time()
        step(number)
        times.append(1e3 * (time.process_time() - begin))
    return min(times[_WARM_UP:])


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """What `measure` returned once, kept in a JSON file: remove it to measure again."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        results.write_json(path, measure())
    return results.read_json(path)
