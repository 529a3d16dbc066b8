"""The table and the figures by name; each is a module with `plan`, `content` and `write`."""

from pathlib import Path
from typing import List, Sequence

from experiments.paper import (
    augmentation,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    figure6,
    runs,
    table1,
)
from experiments.paper.presets import Preset

ALL = {
    "table1": table1,
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "figure5": figure5,
    "figure6": figure6,
    "augmentation": augmentation,
}


def check(only: Sequence[str]) -> None:
    """Raises ValueError for a name that is not one."""
    unknown = sorted(set(only) - set(ALL))
    if unknown:
        raise ValueError(f"only={unknown} is unknown; allowed: {', '.join(ALL)}.")


def plan(only: Sequence[str], preset: Preset) -> List[runs.Run]:
    """The runs that tables and figures need, in their order; some are needed more than once."""
    return [run for name in only for run in ALL[name].plan(preset)]


def write(only: Sequence[str], preset: Preset, workdir: Path, directory: Path) -> None:
    """Writes tables and figures of what has run, whether or not all of it has.

    What was written before stays where none of an item's runs has begun, and that is said.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    for name in only:
        planned = ALL[name].plan(preset)
        if planned and not any(_begun(run, workdir) for run in planned):
            print(f"{name}: nothing has run yet")
            continue
        ALL[name].write(ALL[name].content(preset, workdir), directory)


def _begun(run: runs.Run, workdir: Path) -> bool:
    state = runs.state(run, workdir)
    return state.epochs > 0 or state.status == "diverged"
