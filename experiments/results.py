"""What runs leave behind: JSON files written whole or not at all, metrics as CSV, tables."""

import csv
import io
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from random_bases import files


class DamagedError(ValueError):
    """A file that a run has left is not what it must be."""


def write_json(path: Path, content: Any) -> None:
    """Writes `content` so that a reader, or a run killed here, finds the old file or the new one."""
    files.write(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: naming the file, if it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error


def check_config(
    path: Path, wanted: Dict[str, Any], but: Sequence[str], default: Optional[Dict[str, Any]] = None
) -> None:
    """Makes sure that the configuration of the run found in a directory, if there is one, is this one.

    Args:
      path: of the JSON file, in the run's directory.
      wanted: the configuration.
      but: keys that may differ.
      default: of keys that did not exist when the run was begun.

    Raises:
      ValueError: naming the keys that differ, and both values of each.
    """
    if not path.exists():
        return
    found = {**(default or {}), **read_json(path)}
    wanted = json.loads(json.dumps(wanted))  # tuples read as lists
    different = sorted(key for key in {*wanted, *found} - {*but} if wanted.get(key) != found.get(key))
    if different:
        changes = ", ".join(f"{key}: {found.get(key)!r} != {wanted.get(key)!r}" for key in different)
        raise ValueError(
            f"{path.parent} holds a run of another configuration ({changes}). Choose another directory, or "
            "discard what is in it."
        )


def read_metrics(path: Path) -> List[Dict[str, float]]:
    """The rows of a `metrics.csv`, one an epoch; a last row cut off by a kill is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {name: float(value) for name, value in row.items()}
        for row in rows
        if all(row.values()) and None not in row
    ]


def keep_epochs(path: Path, epochs: int) -> None:
    """Drops the rows of a `metrics.csv` that a run resumed after `epochs` epochs will write again."""
    rows = read_metrics(path)[:epochs]
    if not rows:
        if path.exists():
            path.unlink()
        return
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, fieldnames=list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow(dict(row, epoch=int(row["epoch"])))
    files.write(path, content.getvalue())


def format_table(rows: Sequence[Dict[str, str]]) -> str:
    """Rows of equal keys as a Markdown table, columns aligned; the keys are the heading."""
    heading = list(rows[0])
    lines = [heading, *([row[name] for name in heading] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]

    def render(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([render(heading), rule, *(render(line) for line in lines[1:])])
