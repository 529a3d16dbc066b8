"""What runs leave behind: JSON files written whole or not at all, metrics as CSV, tables."""

import json
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional, Sequence, Tuple

from random_bases import arguments, files


class DamagedError(ValueError):
    """A file that a run has left is not what it must be."""


def write_json(path: Path, content: Any) -> None:
    """Writes `content` so that a reader, or a run killed here, finds the old file or the new one."""
    files.write(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_text(path: Path) -> str:
    """Reads a text file.

    Raises:
      DamagedError: naming the file, if it is not in UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is damaged: {error}.") from error


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      DamagedError: naming the file, if it is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DamagedError(f"{path} is not a JSON file: {error}.") from error


def read_object(path: Path) -> Dict[str, Any]:
    """As `read_json`, of a file that must hold names and values."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DamagedError(f"{path} is damaged: it holds no object of names and values.")
    return content


def shaped(path: Path) -> ContextManager[None]:
    """As `files.shaped`, with a DamagedError that names `path`."""
    return files.shaped(str(path), DamagedError)


def read_result(path: Path) -> Optional[Dict[str, Any]]:
    """What a run left when it had ended; None if it has not.

    Raises:
      DamagedError: naming the file, if it is no such result.
    """
    if not path.exists():
        return None
    content = read_object(path)
    with shaped(path):
        arguments.one_of("status", content["status"], ("finished", "diverged"))
        if content["status"] == "finished":
            arguments.integer("config.epochs", content["config"]["epochs"], 1)
        for name in ("seconds", "test_accuracy"):
            if name in content:
                arguments.number(name, content[name], 0)
        for name in ("accuracy", "validation_accuracy"):
            if name in content:
                arguments.numbers(name, content[name])
    return content


def read_config(path: Path) -> Optional[Dict[str, Any]]:
    """The configuration that a run was begun with; None if there is none.

    Raises:
      DamagedError: naming the file, if it is none.
    """
    if not path.exists():
        return None
    content = read_object(path)
    with shaped(path):
        arguments.integer("epochs", content["epochs"], 1)
    return content


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
      DamagedError: if it is no configuration.
    """
    if not path.exists():
        return
    check_same(path.parent, read_object(path), wanted, but, default)


def check_same(
    where: Path,
    found: Dict[str, Any],
    wanted: Dict[str, Any],
    but: Sequence[str],
    default: Optional[Dict[str, Any]] = None,
) -> None:
    """As `check_config`, of a configuration that has been read."""
    found = {**(default or {}), **found}
    wanted = json.loads(json.dumps(wanted))  # tuples read as lists
    different = sorted(key for key in {*wanted, *found} - {*but} if wanted.get(key) != found.get(key))
    if different:
        changes = ", ".join(f"{key}: {found.get(key)!r} != {wanted.get(key)!r}" for key in different)
        raise ValueError(
            f"{where} holds a run of another configuration ({changes}). Choose another directory, or "
            "discard what is in it."
        )


def read_metrics(path: Path, needed: Sequence[str] = ()) -> List[Dict[str, float]]:
    """The rows of a `metrics.csv`, one an epoch; a last row cut off by a kill is left out.

    Raises:
      DamagedError: naming the file and the row, if it has not one row of numbers for each epoch, in order; or
        if it has no column of a name that is `needed`.
    """
    try:
        rows = [row for _, row in _rows(path)]
    except FileNotFoundError:
        return []
    missing = [name for name in needed if rows and name not in rows[0]]
    if missing:
        raise DamagedError(f"{path} has no columns {missing}; it has {sorted(rows[0])}.")
    return rows


def keep_epochs(path: Path, epochs: int, to: Optional[Path] = None) -> None:
    """Drops the rows of a `metrics.csv` that a run resumed after `epochs` epochs will write again.

    Args:
      path: of the file, which may be absent.
      epochs: how many rows to keep.
      to: where to write them; None: to `path`.

    Raises:
      DamagedError: as `read_metrics`; or if it has fewer rows.
    """
    target = path if to is None else to
    if not epochs:
        if target.exists():
            target.unlink()
        return
    kept = [line for line, _ in _rows(path)[:epochs]] if path.exists() else []
    if len(kept) < epochs:
        raise DamagedError(f"{path} has {len(kept)} whole rows; needed: {epochs}.")
    heading = read_text(path).splitlines(keepends=True)[0]
    files.write(target, "".join([heading, *kept]))


def _rows(path: Path) -> List[Tuple[str, Dict[str, float]]]:
    """(the line as it is, its numbers) of each whole row."""
    lines = read_text(path).splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        del lines[-1]  # its writer was killed, or is about to go on
    if not lines:
        return []
    names = lines[0].strip().split(",")
    rows = []
    for number, line in enumerate(lines[1:]):
        try:
            values = [float(cell) for cell in line.strip().split(",")]
        except ValueError as error:
            raise DamagedError(f"{path}, row {number + 1}, {line.strip()!r}: {error}.") from error
        row = dict(zip(names, values))
        if len(values) != len(names) or row.get("epoch") != number:
            raise DamagedError(
                f"{path}, row {number + 1}, {line.strip()!r}: it must have {len(names)} numbers, and epoch "
                f"{number}."
            )
        rows.append((line, row))
    return rows


def format_table(rows: Sequence[Dict[str, str]]) -> str:
    """Rows of equal keys as a Markdown table, columns aligned; the keys are the heading."""
    heading = list(rows[0])
    lines = [heading, *([row[name] for name in heading] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]

    def render(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([render(heading), rule, *(render(line) for line in lines[1:])])
