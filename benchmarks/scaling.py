"""Time and memory of a sketch against d and D: `python -m benchmarks.scaling --output=results/benchmarks`.

Writes scaling.json and scaling.png. Each point is a process of its own; all take about 10 minutes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import matplotlib
import numpy as np
import tensorflow as tf
from absl import app, flags

import random_bases as rb
from benchmarks.measure import in_process
from experiments import machine

_BASES = ("normal", "rademacher", "hadamard")
_SIZE = 100_000
_ALL_DIMENSIONS = (10, 100, 1000, 10_000, 100_000)
_DIMENSIONS = 100
_ALL_SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)

_OUTPUT = flags.DEFINE_string("output", "results/benchmarks", "Directory for the data and the figure.")


def _point(basis: str, size: int, dimensions: int) -> Dict[str, Any]:
    """Milliseconds of a sketch, and the process's peak memory above that before its vector was made."""
    imported = machine.resident_megabytes()
    drawn = rb.bases.get(basis, size, dimensions)
    v = tf.ones([size])
    drawn.sketch(v, 0)[0].numpy()
    seconds: List[float] = []
    while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < 1):
        start = time.perf_counter()
        drawn.sketch(v, 0)[0].numpy()
        seconds.append(time.perf_counter() - start)
    milliseconds = 1e3 * float(np.median(seconds))
    return {
        "basis": basis,
        "D": size,
        "d": dimensions,
        "ms": milliseconds,
        "mb": machine.peak_megabytes() - imported,
    }


def _plot(points: List[Dict[str, Any]], path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), sharex="col", constrained_layout=True)
    for column, (variable, label, fixed) in enumerate(
        (("d", "directions d", {"D": _SIZE}), ("D", "parameters D", {"d": _DIMENSIONS}))
    ):
        for row, (key, unit) in enumerate((("ms", "a sketch (ms)"), ("mb", "peak memory (MB)"))):
            ax = axes[row, column]
            for basis in _BASES:
                chosen = [p for p in points if p["basis"] == basis and p["sweep"] == variable]
                ax.loglog([p[variable] for p in chosen], [p[key] for p in chosen], "o-", label=basis)
            if key == "mb" and variable == "D":
                sizes = np.array(_ALL_SIZES, float)
                ax.loglog(sizes, 4 * sizes / 2**20, "k:", label="a parameter vector")
            if key == "mb" and variable == "d":
                ax.set(yscale="linear", ylim=(0, 1.5 * max(p["mb"] for p in points if p["sweep"] == "d")))
            ax.set_ylabel(unit)
            ax.grid(alpha=0.3)
            if row == 1:
                ax.set_xlabel(label)
            ((name, value),) = fixed.items()
            ax.set_title(f"{name} = {value:,}" if row == 0 else "")
    axes[0, 0].legend()
    axes[1, 1].legend()
    figure.savefig(path, dpi=120)


def main(arguments):
    """Measures, writes and plots."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    points = []
    for basis in _BASES:
        sweeps = [("d", _SIZE, d) for d in _ALL_DIMENSIONS] + [("D", n, _DIMENSIONS) for n in _ALL_SIZES]
        for sweep, size, dimensions in sweeps:
            point = in_process("benchmarks.scaling", "point", basis, size, dimensions)
            print(json.dumps(point), flush=True)
            points.append({"sweep": sweep, **point})
    content = {"machine": machine.description(), "points": points}
    (output / "scaling.json").write_text(json.dumps(content, indent=1) + "\n")
    _plot(points, output / "scaling.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["point"]:
        print(json.dumps(_point(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        app.run(main)
