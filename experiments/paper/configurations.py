"""Configurations of runs, checked before the first one starts."""

import importlib.util
from pathlib import Path
from typing import Sequence

import ml_collections

from experiments import datasets, methods, training
from experiments.paper.runs import Run, Series

ROOT = Path(__file__).resolve().parents[2]


def path(stem: str) -> Path:
    """The file of a configuration.

    Raises:
      ValueError: if there is none.
    """
    file = ROOT / "configs" / f"{stem}.py"
    if not file.exists():
        allowed = ", ".join(sorted(each.stem for each in file.parent.glob("*.py")))
        raise ValueError(f"config={stem!r} is unknown; allowed: {allowed}.")
    return file


def read(stem: str) -> ml_collections.ConfigDict:
    """The configuration as its file has it.

    Raises:
      ValueError: if there is none.
    """
    spec = importlib.util.spec_from_file_location(stem, path(stem))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def load(series: Series) -> ml_collections.ConfigDict:
    """The configuration of a series of runs.

    Raises:
      ValueError: for an unknown file, and for changes that it does not allow.
    """
    config = read(series.config)
    try:
        config.update(dict(series.changes))
        training.check_config(config)
        methods.build_optimizer(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{series.config} with {series.name}: {error.args[0]}") from error
    return config


def check(planned: Sequence[Run], data_dir: str) -> None:
    """Checks that configurations are valid and that their data is there.

    Raises:
      ValueError: for a configuration that is not valid, and data that is not what it should be.
      FileNotFoundError: if data is not there.
    """
    names = {load(series).dataset for series in dict.fromkeys(run.series for run in planned)}
    for name in sorted(names):
        datasets.load(name, data_dir or None)
