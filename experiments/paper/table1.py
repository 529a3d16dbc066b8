"""Table 1: held-out accuracy of NES, FPD, RBD and SGD on six networks, and of RBD with error feedback."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Optional

from experiments import results, training
from experiments.paper import feedback_column, published, runs
from experiments.paper.presets import Preset

# Column -> the paper's column that it stands beside.
COLUMNS = {
    "NES": "nes",
    "FPD": "fpd",
    "RBD, normal": "rbd",
    "RBD, Hadamard": "rbd",
    "SGD": "sgd",
    "RBD, error feedback": None,
}


def series(config: str) -> Dict[str, runs.Series]:
    """Column -> its series, for one network."""
    return {
        "NES": runs.series(config, "nes"),
        "FPD": runs.series(config, "fpd", basis="hadamard"),
        "RBD, normal": runs.series(config, "rbd", basis="normal"),
        "RBD, Hadamard": runs.series(config, "rbd", basis="hadamard"),
        "SGD": runs.series(config, "sgd"),
        "RBD, error feedback": feedback_column.series(config),
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the table needs."""
    return [
        run
        for config in preset.networks
        for each in series(config).values()
        for run in each.runs(preset.table[config], preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `table1.json` holds: for each network and column what was measured and what was published."""
    rows = []
    for config in preset.networks:
        found = {column: runs.measured(each, workdir) for column, each in series(config).items()}
        cells = {
            column: {
                "measured": _measured(value, runs.measured(series(config)["SGD"], workdir, value.epochs)),
                "published": _published(config, COLUMNS[column]),
                "name": series(config)[column].name,
            }
            for column, value in found.items()
        }
        name = published.NETWORKS.get(config, config)
        rows.append({"config": config, "network": name, "cells": cells})
    return {"rows": rows, **training.environment()}


def _measured(found: runs.Measured, sgd: runs.Measured) -> Optional[Dict[str, Any]]:
    """A cell; its mean is None where all runs diverged, and its relative where SGD has fewer epochs."""
    if not found.accuracies:
        return {"mean": None, "diverged": len(found.diverged)} if found.diverged else None
    same = sgd.accuracies and sgd.epochs == found.epochs
    return {
        "mean": 100 * found.mean,
        "deviation": None if found.deviation is None else 100 * found.deviation,
        "relative": found.mean / sgd.mean if same else None,
        "runs": len(found.accuracies),
        "epochs": found.epochs,
        "training": 100 * found.training,
        "diverged": len(found.diverged),
    }


def _published(config: str, method: Optional[str]) -> Optional[Dict[str, Any]]:
    if method is None or config not in published.TABLE_1:
        return None
    return published.TABLE_1[config][method]._asdict()


def measured_text(cell: Optional[Dict[str, Any]]) -> str:
    """As "93.89 ± 0.02 (0.96), 3 x 100": mean, deviation, relative to SGD, runs x epochs."""
    if cell is None:
        return "-"
    diverged = f"{cell['diverged']} diverged"
    if cell["mean"] is None:
        return diverged
    text = f"{published_text(cell)}, {cell['runs']} x {cell['epochs']}"
    return f"{text}, {diverged}" if cell["diverged"] else text


def published_text(cell: Optional[Dict[str, Any]]) -> str:
    """As "93.89 ± 0.02 (0.96)"."""
    if cell is None:
        return "-"
    deviation = "" if cell["deviation"] is None else f" ± {cell['deviation']:.2f}"
    relative = "" if cell["relative"] is None else f" ({cell['relative']:.2f})"
    return f"{cell['mean']:.2f}{deviation}{relative}"


def table(found: Dict[str, Any]) -> List[Dict[str, str]]:
    """The table's lines, two for each network: ours and the paper's."""
    lines = []
    for row in found["rows"]:
        cells = row["cells"]
        measured = {column: measured_text(cells[column]["measured"]) for column in COLUMNS}
        lines.append({"network": row["network"], "": "here", **measured})
        if row["config"] in published.TABLE_1:
            paper = {column: published_text(cells[column]["published"]) for column in COLUMNS}
            lines.append({"network": "", "": "paper", **paper})
    return lines


_CSV = ("network", "column", "source", "mean", "deviation", "relative", "runs", "epochs", "diverged")


def with_earlier(found: Dict[str, Any], earlier: Dict[str, Any]) -> Dict[str, Any]:
    """`found`, with the measurements of an earlier table where it has none of the same series.

    A working directory does not have to hold the runs of all sessions.
    """
    before = {row["config"]: row["cells"] for row in earlier["rows"]}
    rows = []
    for row in found["rows"]:
        cells = {}
        for column, cell in row["cells"].items():
            old = before.get(row["config"], {}).get(column)
            same = old is not None and old["name"] == cell["name"] and cell["measured"] is None
            cells[column] = old if same else cell
        rows.append(
            {**row, "cells": {column: _relative(cell, cells["SGD"]) for column, cell in cells.items()}}
        )
    return {**found, "rows": rows}


def _relative(cell: Dict[str, Any], sgd: Dict[str, Any]) -> Dict[str, Any]:
    """A cell, relative to SGD's if that has as many epochs behind it."""
    here, other = cell["measured"], sgd["measured"]
    if not here or not other or None in (here["mean"], other["mean"]) or here["relative"] is not None:
        return cell
    same = here["epochs"] == other["epochs"]
    return {**cell, "measured": {**here, "relative": here["mean"] / other["mean"] if same else None}}


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `table1.json`, `table1.md` and `table1.csv`; cells that have not run keep what was there."""
    path = directory / "table1.json"
    if path.exists():
        with results.shaped(path):
            found = with_earlier(found, results.read_object(path))
    results.write_json(directory / "table1.json", found)
    (directory / "table1.md").write_text(results.format_table(table(found)) + "\n")
    with (directory / "table1.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _CSV, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in found["rows"]:
            for column, cell in row["cells"].items():
                named = {"network": row["network"], "column": column}
                if cell["measured"]:
                    writer.writerow({**named, "source": "here", **cell["measured"]})
                if cell["published"]:
                    paper = {"runs": published.SEEDS, "epochs": published.EPOCHS}
                    writer.writerow({**named, "source": "paper", **cell["published"], **paper})
