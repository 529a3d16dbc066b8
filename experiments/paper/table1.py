"""Table 1: held-out accuracy of NES, FPD, RBD and SGD on six networks, and of RBD with error feedback."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from experiments import results, training
from experiments.paper import feedback_column, published, runs
from experiments.paper.presets import Preset
from experiments.paper.protocols import PROTOCOLS, Protocol

# Column -> the paper's column that it stands beside.
COLUMNS = {
    "NES": "nes",
    "FPD": "fpd",
    "RBD, normal": "rbd",
    "RBD, Hadamard": "rbd",
    "SGD": "sgd",
    "RBD, error feedback": None,
}


def series(config: str, protocol: Protocol) -> Dict[str, runs.Series]:
    """Column -> its series, for one network."""

    def of(method: str, **basis: str) -> runs.Series:
        return runs.series(config, method, **basis, **protocol.changes(config, method))

    return {
        "NES": of("nes"),
        "FPD": of("fpd", basis="hadamard"),
        "RBD, normal": of("rbd", basis="normal"),
        "RBD, Hadamard": of("rbd", basis="hadamard"),
        "SGD": of("sgd"),
        "RBD, error feedback": feedback_column.series(config),
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the table needs."""
    protocol = PROTOCOLS[preset.protocol]
    return [
        run
        for config in preset.networks
        for column, each in series(config, protocol).items()
        for run in each.runs(protocol.epochs(COLUMNS[column], preset.table[config]), preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `table1.json` holds: for each network and column what was measured and what was published."""
    protocol = PROTOCOLS[preset.protocol]
    rows = []
    for config in preset.networks:
        which = series(config, protocol)
        found = {
            column: runs.measured(each, workdir, protocol.own_epochs.get(COLUMNS[column]))
            for column, each in which.items()
        }
        cells = {
            column: {
                "measured": _measured(value, runs.measured(which["SGD"], workdir, value.epochs)),
                "published": _published(config, COLUMNS[column]),
                "name": which[column].name,
            }
            for column, value in found.items()
        }
        name = published.NETWORKS.get(config, config)
        rows.append({"config": config, "network": name, "cells": _related(cells, protocol)})
    return {"protocol": preset.protocol, "rows": rows, **training.environment()}


def _measured(found: runs.Measured, sgd: runs.Measured) -> Optional[Dict[str, Any]]:
    """A cell; its mean is None where all runs diverged, and its relative where SGD has fewer epochs."""
    if not found.accuracies:
        return {"mean": None, "diverged": len(found.diverged)} if found.diverged else None
    same = sgd.accuracies and sgd.epochs == found.epochs
    return {
        "mean": 100 * found.mean,
        "deviation": None if found.deviation is None else 100 * found.deviation,
        "relative": found.mean / sgd.mean if same else None,
        "accuracies": {str(seed): 100 * each for seed, each in zip(found.seeds, found.accuracies)},
        "runs": len(found.accuracies),
        "epochs": found.epochs,
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
    """`found`, with what an earlier table has of the same series.

    A working directory does not have to hold the runs of all sessions.
    """
    before = {row["config"]: row["cells"] for row in earlier["rows"]}
    rows = []
    for row in found["rows"]:
        cells = {}
        for column, cell in row["cells"].items():
            old = before.get(row["config"], {}).get(column)
            same = old is not None and old["name"] == cell["name"]
            cells[column] = {**cell, "measured": _joined(cell["measured"], old["measured"])} if same else cell
        rows.append({**row, "cells": _related(cells, PROTOCOLS[found["protocol"]])})
    return {**found, "rows": rows}


def _joined(here: Optional[Dict[str, Any]], before: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """Of two measurements of one series the one that got further; of as many epochs, the seeds of both."""
    if not here or not before or None in (here["mean"], before["mean"]):
        return here or before
    if here["epochs"] != before["epochs"]:
        return max(here, before, key=lambda each: each["epochs"])
    accuracies = {**before["accuracies"], **here["accuracies"]}
    values = list(accuracies.values())
    mean = float(np.mean(values))
    # To SGD's of then after as many epochs, of which only the ratio is known.
    of = here if here["relative"] is not None else before
    return {
        **here,
        "mean": mean,
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "relative": None if of["relative"] is None else of["relative"] * mean / of["mean"],
        "accuracies": accuracies,
        "runs": len(values),
        "diverged": max(here["diverged"], before["diverged"]),
    }


def _related(cells: Dict[str, Dict[str, Any]], protocol: Protocol) -> Dict[str, Dict[str, Any]]:
    """A row's cells, relative to SGD's after as many epochs, or all of the paper's; else as they are."""
    sgd = cells["SGD"]["measured"]
    if not sgd or sgd["mean"] is None:
        return cells
    found = {}
    for column, cell in cells.items():
        here = cell["measured"]
        if here and here["mean"] is not None:
            whole = [
                protocol.is_whole(COLUMNS[name], m["epochs"]) for name, m in ((column, here), ("SGD", sgd))
            ]
            if all(whole) or here["epochs"] == sgd["epochs"]:
                cell = {**cell, "measured": {**here, "relative": here["mean"] / sgd["mean"]}}
        found[column] = cell
    return found


def stem(protocol: str) -> str:
    """The name of a protocol's files, without their endings."""
    return "table1" if protocol == "table" else f"table1_{protocol}"


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes the JSON, Markdown and CSV of `stem`; cells that have not run stay as they were."""
    name = stem(found["protocol"])
    path = directory / f"{name}.json"
    if path.exists():
        with results.shaped(path):
            found = with_earlier(found, results.read_object(path))
    results.write_json(path, found)
    (directory / f"{name}.md").write_text(results.format_table(table(found)) + "\n")
    with (directory / f"{name}.csv").open("w", newline="") as file:
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
