"""Figures of experiments, drawn with matplotlib into files (no display needed)."""

from pathlib import Path
from typing import Dict, Sequence

from matplotlib.figure import Figure


def accuracy_curves(path: Path, curves: Dict[str, Sequence[float]], title: str, ylabel: str) -> None:
    """Accuracy against epochs, one line a label, written to `path` (the ending chooses the format).

    Args:
      path: the file.
      curves: label -> accuracy (a fraction) after epochs 1, 2, ...
      title: above the figure.
      ylabel: what the accuracy is of.
    """
    figure = Figure(figsize=(7.0, 4.2))
    axes = figure.add_subplot()
    for label, accuracies in curves.items():
        epochs = range(1, len(accuracies) + 1)
        axes.plot(epochs, [100 * value for value in accuracies], label=label, linewidth=1.8)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{ylabel} (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(str(path), dpi=150)
