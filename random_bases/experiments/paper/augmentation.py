"""What augmentation does: an experiment on why some cells are not where Table 1 of the paper has them."""

from pathlib import Path
from typing import Any, Dict, List, Optional

from random_bases.experiments import results, training
from random_bases.experiments.paper import published, runs, table1
from random_bases.experiments.paper.presets import Preset

METHODS = ("fpd", "rbd", "sgd")


def series(config: str, method: str) -> Dict[str, runs.Series]:
    """Column -> series."""
    basis = {} if method == "sgd" else {"basis": "hadamard"}
    return {
        "augmented": runs.series(config, method, **basis),
        "not augmented": runs.series(config, method, augment=False, **basis),
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the table needs."""
    return [
        run
        for config in preset.augmented
        for method in METHODS
        for each in series(config, method).values()
        for run in each.runs(preset.table[config], preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `augmentation.json` holds: mean accuracies of both, at the epochs that both have."""
    rows = []
    for config in preset.augmented:
        for method in METHODS:
            which = series(config, method)
            epochs = runs.common_epochs(list(which.values()), workdir)
            found = {column: runs.measured(each, workdir, epochs) for column, each in which.items()}
            rows.append(
                {
                    "config": config,
                    "method": method,
                    "epochs": epochs,
                    "measured": {
                        column: 100 * each.mean if each.accuracies else None for column, each in found.items()
                    },
                    "diverged": runs.diverged(which, workdir),
                }
            )
    return {"rows": rows, **training.environment()}


def table(found: Dict[str, Any]) -> List[Dict[str, str]]:
    """The lines of the table."""
    lines = []
    for row in found["rows"]:
        paper = published.TABLE_1.get(row["config"], {}).get(row["method"])
        lines.append(
            {
                "network": published.NETWORKS.get(row["config"], row["config"]),
                "method": row["method"].upper(),
                "epochs": str(row["epochs"]),
                **{
                    column: _text(mean, column in row["diverged"]) for column, mean in row["measured"].items()
                },
                "paper, 100 epochs": table1.published_text(paper and {**paper._asdict(), "relative": None}),
            }
        )
    return lines


def _text(mean: Optional[float], diverged: bool) -> str:
    if mean is None:
        return "diverged" if diverged else "-"
    return f"{mean:.2f}, some diverged" if diverged else f"{mean:.2f}"


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `augmentation.json` and `augmentation.md`."""
    results.write_json(directory / "augmentation.json", found)
    (directory / "augmentation.md").write_text(results.format_table(table(found)) + "\n")
