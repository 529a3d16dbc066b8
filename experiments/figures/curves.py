"""Figures of experiments, drawn with matplotlib into files (no display needed)."""

from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from experiments.figures import panels
from random_bases.analysis.intrinsic_dimension import Point


def accuracy_curves(path: Path, curves: Dict[str, Sequence[float]], title: str, ylabel: str) -> None:
    """Accuracy against epochs, one line a label, written to `path` (the ending chooses the format).

    Args:
      path: the file.
      curves: label -> accuracy (a fraction) after epochs 1, 2, ...
      title: above the figure.
      ylabel: what the accuracy is of.
    """
    lines = [
        panels.line(label, range(1, len(accuracies) + 1), [100 * value for value in accuracies])
        for label, accuracies in curves.items()
    ]
    panels.draw([panels.panel(title, "epoch", f"{ylabel} (%)", lines)], path)


def explained_variance(path: Path, ratios: Dict[str, Sequence[float]], title: str) -> None:
    """The variance that is left after so many principal components, one line a label.

    Args:
      path: the file; its ending chooses the format.
      ratios: label -> the fraction of the variance along each component, decreasing.
      title: above the figure.
    """
    # After the last, nothing but rounding is left.
    left = {label: 100 * (1 - np.cumsum(ratio)[:-1]) for label, ratio in ratios.items()}
    lines = [panels.line(label, range(1, len(values) + 1), values.tolist()) for label, values in left.items()]
    panels.draw(
        [panels.panel(title, "principal components", "variance not explained (%)", lines, yscale="log")], path
    )


def averaging(path: Path, runs: Dict[str, Dict[str, Any]]) -> None:
    """Validation accuracy of runs in a trajectory's subspace and of SGD, against the epochs behind them.

    Args:
      path: the file; its ending chooses the format.
      runs: name -> `method`, `epochs` and `validation_accuracy`, as from `trajectories.compare`.
    """
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.add_subplot()
    for name, run in runs.items():
        accuracy = 100 * np.array(run["validation_accuracy"])
        axes.plot(run["epochs"], accuracy, "-" if run["method"] == "sgd" else "o-", markersize=4, label=name)
    best = max(max(run["validation_accuracy"]) for run in runs.values())
    axes.set_ylim(100 * best - 12, 100 * best + 1)
    axes.set_xlabel("epochs of SGD and in the subspace")
    axes.set_ylabel("validation accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(str(path), dpi=150)


def intrinsic_dimension(
    path: Path,
    curve: Sequence[Point],
    direct: float,
    threshold: float,
    dimensions: Optional[int],
    title: str,
    ylabel: str,
) -> None:
    """Accuracy or return against d with the intrinsic dimension, as in Figure 2 of Li et al. 2018.

    Args:
      path: the file; its ending chooses the format.
      curve: accuracy (a fraction), or return, against d.
      direct: the mean of the directly trained network.
      threshold: what the intrinsic dimension reaches.
      dimensions: the intrinsic dimension; None if it was not found.
      title: above the figure.
      ylabel: what it is; "... accuracy" is shown in percent.
    """
    figure = Figure(figsize=(6.0, 4.2))
    axes = figure.add_subplot()
    scale, unit = (100, "%") if ylabel.endswith("accuracy") else (1, "")
    axes.axhline(scale * direct, color="black", linewidth=1.2, label=f"direct: {scale * direct:.1f}{unit}")
    asked = f"{100 * threshold / direct:.0f}% of it" if unit else "solved"
    label = f"{asked}: {scale * threshold:.1f}{unit}"
    axes.axhline(scale * threshold, color="black", linewidth=1.2, linestyle=":", label=label)
    axes.plot([p.dimensions for p in curve], [scale * p.mean for p in curve], color="tab:blue", alpha=0.4)
    every = [(p.dimensions, scale * accuracy) for p in curve for accuracy in p.accuracies]
    axes.plot(*zip(*every), ".", color="tab:blue", alpha=0.5, label="subspace, each seed")
    axes.plot(
        [p.dimensions for p in curve],
        [scale * p.mean for p in curve],
        "o",
        markerfacecolor="white",
        color="tab:blue",
        label="mean",
    )
    if dimensions is not None:
        (mean,) = [scale * p.mean for p in curve if p.dimensions == dimensions]
        axes.plot([dimensions], [mean], "o", color="tab:blue", markersize=9, label=f"d = {dimensions:,}")
    axes.set_xscale("log")
    found = [p.dimensions for p in curve]
    wide = max(found) >= 10 * min(found)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else FixedLocator(found))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("subspace dimension d")
    axes.set_ylabel(f"{ylabel} (%)" if unit else ylabel)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(str(path), dpi=150)
