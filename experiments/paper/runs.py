"""One run of the reproduction: a configuration file, what differs from it, and a directory.

Runs that differ only in their seed are a `Series`, what tables and figures show. A run's directory does not
name its epochs: one with more goes on where the one with fewer ended (`training.run`), and whoever needs
fewer reads its first rows.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from experiments import results
from experiments.figures import panels

# Where they stand in a directory's name; others follow as key=value.
_NAMED = ("method", "basis")
# Columns of metrics.
_SHOWN = ("accuracy", "val_accuracy")


class Series(NamedTuple):
    """Runs that differ in their seed only.

    Attributes:
      config: the stem of a file in configs/.
      changes: (key, value) of `training.default_config`, sorted, without "seed" and "epochs".
      workers: virtual devices that the run's strategy has.
    """

    config: str
    changes: Tuple[Tuple[str, Any], ...]
    workers: int = 1

    @property
    def name(self) -> str:
        """Its directory below the configuration's, as "rbd-hadamard-optimizer=adam"."""
        changes = dict(self.changes)
        named = [str(changes.pop(key)) for key in _NAMED if key in changes]
        rest = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in changes.items()]  # fmt: skip
        workers = [f"workers={self.workers}"] if self.workers > 1 else []
        return "-".join(named + rest + workers)

    def runs(self, epochs: int, seeds: int) -> List["Run"]:
        """The runs with seeds 0, 1, ..."""
        return [Run(self, epochs, seed) for seed in range(seeds)]


class Run(NamedTuple):
    """One run."""

    series: Series
    epochs: int
    seed: int

    def directory(self, workdir: Path) -> Path:
        return workdir / self.series.config / self.series.name / f"seed{self.seed}"


class State(NamedTuple):
    """How far a run is.

    Attributes:
      status: "left", "finished" or "diverged".
      epochs: whole ones that it has behind it.
    """

    status: str
    epochs: int


def series(config: str, method: str, workers: int = 1, **changes: Any) -> Series:
    """The series of a method with a configuration file; `changes` as of `training.default_config`."""
    return Series(config, tuple(sorted({"method": method, **changes}.items())), workers)


def state(run: Run, workdir: Path) -> State:
    """How far a run is, by what it left in its directory."""
    directory = run.directory(workdir)
    epochs = len(results.read_metrics(directory / "metrics.csv"))
    result = results.read_result(directory / "result.json")
    if result is not None and result["status"] == "diverged":
        return State("diverged", epochs)
    config = results.read_config(directory / "config.json")
    asked = run.epochs if config is None else config["epochs"]
    # One that goes further has this one's epochs before it ends.
    ended = result is not None and result["config"]["epochs"] >= run.epochs or asked > run.epochs
    return State("finished" if ended and epochs >= run.epochs else "left", epochs)


class Measured(NamedTuple):
    """What the runs of a series have reached.

    Attributes:
      epochs: after which `accuracies` are; 0: nothing has run.
      accuracies: fractions of the held-out examples, one for each seed that got so far.
      seeds: these seeds.
      curve: their mean after epochs 1, 2, ... `epochs`.
      training: mean accuracy on the (augmented) training examples of epoch `epochs`.
      diverged: seeds whose loss became infinite or not a number.
    """

    epochs: int
    accuracies: Tuple[float, ...]
    seeds: Tuple[int, ...]
    curve: Tuple[float, ...]
    training: float
    diverged: Tuple[int, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> Optional[float]:
        """Of the seeds, n - 1 in the denominator; None for fewer than two."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None


def measured(which: Series, workdir: Path, epochs: Optional[int] = None) -> Measured:
    """What a series has reached, after `epochs`, or after as many as one of its runs has.

    A seed that has fewer epochs behind it, or diverged, is left out.
    """
    histories, diverged = {}, []
    for directory in sorted((workdir / which.config / which.name).glob("seed*")):
        seed = int(directory.name[len("seed") :])
        result = results.read_result(directory / "result.json")
        if result is not None and result["status"] == "diverged":
            diverged.append(seed)
            continue
        histories[seed] = results.read_metrics(directory / "metrics.csv", _SHOWN)
    longest = max((len(rows) for rows in histories.values()), default=0)
    epochs = longest if epochs is None else min(epochs, longest)
    seeds = [seed for seed, rows in histories.items() if epochs and len(rows) >= epochs]
    kept = [histories[seed][:epochs] for seed in seeds]
    curves = np.array([[row["val_accuracy"] for row in rows] for rows in kept])
    return Measured(
        epochs,
        tuple(float(curve[-1]) for curve in curves),
        tuple(seeds),
        tuple(curves.mean(axis=0).tolist()) if kept else (),
        float(np.mean([rows[-1]["accuracy"] for rows in kept])) if kept else float("nan"),
        tuple(diverged),
    )


def common_epochs(which: List[Series], workdir: Path) -> int:
    """The epochs that every series has which has run at all (and not diverged); 0 if none has."""
    found = [measured(each, workdir).epochs for each in which]
    return min((epochs for epochs in found if epochs), default=0)


def diverged(which: Dict[Any, Series], workdir: Path) -> List[str]:
    """The labels of series of which a seed diverged."""
    return [str(label) for label, each in which.items() if measured(each, workdir).diverged]


def accuracy_line(
    label: str, points: List[Tuple[float, Series]], workdir: Path, epochs: int, style: str = "line"
) -> Dict[str, Any]:
    """A line of percentages against x after `epochs`, of the (x, series) that have got so far."""
    found = [(x, measured(each, workdir, epochs)) for x, each in points]
    return measured_line(label, [(x, each) for x, each in found if each.epochs == epochs], style)


def measured_line(label: str, points: List[Tuple[float, Measured]], style: str = "line") -> Dict[str, Any]:
    """A line of percentages against x, of what has run."""
    found = [(x, each) for x, each in points if each.accuracies]
    deviations = [None if each.deviation is None else 100 * each.deviation for _, each in found]
    return panels.line(label, [x for x, _ in found], [100 * e.mean for _, e in found], deviations, style)
