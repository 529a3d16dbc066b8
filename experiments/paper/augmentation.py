"""What augmentation does: an experiment on why some cells are not where Table 1 of the paper has them."""

from pathlib import Path
from typing import Any, Dict, List, Optional

from experiments import results, training
from experiments.paper import published, runs, table1
from experiments.paper.presets import Preset

METHODS = ("fpd", "rbd", "sgd")

# Which part of the augmentation it is that fixed directions cannot follow. What differs from the whole of it.
_PARTS = {
    "as in the paper": {},
    "crops only": {"brightness": 0.0},
    "brightness only": {"crop_padding": 0},
    "crops from 1 pixel of padding, brightness": {"crop_padding": 1},
    "crops from 1 pixel of padding only": {"crop_padding": 1, "brightness": 0.0},
    "none": {"augment": False},
}


def series(config: str, method: str) -> Dict[str, runs.Series]:
    """Column -> series."""
    basis = {} if method == "sgd" else {"basis": "hadamard"}
    return {
        "augmented": runs.series(config, method, **basis),
        "not augmented": runs.series(config, method, augment=False, **basis),
    }


def parts(config: str) -> Dict[str, runs.Series]:
    """A part of the augmentation -> FPD with that."""
    return {
        label: runs.series(config, "fpd", basis="hadamard", **changes) for label, changes in _PARTS.items()
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the tables need; of parts of the augmentation, one for each."""
    whole = [
        run
        for config in preset.augmented
        for method in METHODS
        for each in series(config, method).values()
        for run in each.runs(preset.table[config], preset.seeds)
    ]
    epochs = preset.table[preset.main.config]
    return whole + [run for each in parts(preset.main.config).values() for run in each.runs(epochs, 1)]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `augmentation.json` holds: mean accuracies with and without, and with parts of it.

    Those in one row, and those of all parts, are after as many epochs.
    """
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
    return {"rows": rows, "parts": _parts(preset.main.config, workdir), **training.environment()}


def _parts(config: str, workdir: Path) -> Dict[str, Any]:
    which = parts(config)
    epochs = runs.common_epochs(list(which.values()), workdir)
    found = {label: runs.measured(each, workdir, epochs) for label, each in which.items()}
    return {
        "config": config,
        "epochs": epochs,
        "measured": {
            label: {"mean": 100 * each.mean, "runs": len(each.accuracies)}
            for label, each in found.items()
            if each.accuracies
        },
    }


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


def parts_table(found: Dict[str, Any]) -> List[Dict[str, str]]:
    """The lines of the table of parts."""
    network = published.NETWORKS.get(found["parts"]["config"], found["parts"]["config"])
    column = f"{network}, FPD, {found['parts']['epochs']} epochs"
    return [
        {"augmentation": label, column: f"{each['mean']:.2f}", "runs": str(each["runs"])}
        for label, each in found["parts"]["measured"].items()
    ]


def _text(mean: Optional[float], diverged: bool) -> str:
    if mean is None:
        return "diverged" if diverged else "-"
    return f"{mean:.2f}, some diverged" if diverged else f"{mean:.2f}"


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `augmentation.json` and `augmentation.md`."""
    results.write_json(directory / "augmentation.json", found)
    tables = [results.format_table(rows) + "\n" for rows in (table(found), parts_table(found)) if rows]
    (directory / "augmentation.md").write_text("\n".join(tables))
