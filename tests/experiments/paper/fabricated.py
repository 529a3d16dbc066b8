"""A directory of runs as a finished smoke test leaves it, without running any: curves are made up."""

import json

import numpy as np

from experiments import results
from experiments.paper import configurations, figure4, presets, runner, series_index, tables_and_figures

PRESET = presets.PRESETS["smoke"]


def accuracy(run):
    """The made-up accuracy at the end of a run: by its method, with a little of its seed."""
    level = {"nes": 0.2, "fpd": 0.4, "rbd": 0.7, "sgd": 0.9}[dict(run.series.changes)["method"]]
    return level + 0.01 * run.seed


def leave(run, workdir):
    """Writes what a finished run leaves."""
    directory = run.directory(workdir)
    directory.mkdir(parents=True, exist_ok=True)
    config = configurations.read(run.series.config).to_dict()
    config.update({**dict(run.series.changes), "epochs": run.epochs, "seed": run.seed})
    (directory / "config.json").write_text(json.dumps(config))
    curve = accuracy(run) * np.linspace(0.5, 1, run.epochs)
    rows = [f"{epoch},{value - 0.1},{value}" for epoch, value in enumerate(curve)]
    (directory / "metrics.csv").write_text("\n".join(["epoch,accuracy,val_accuracy", *rows]) + "\n")
    result = {
        "status": "finished",
        "config": config,
        "seconds": 2.0 * run.epochs,
        "learning_rate": 0.5,
        "parameters": 9610,
        "versions": {"tensorflow": "2.x"},
        "machine": "made up",
    }
    (directory / "result.json").write_text(json.dumps(result))


def write(workdir, directory, preset=PRESET, only=tuple(tables_and_figures.ALL)):
    """Leaves the runs of a preset in `workdir`, and tables, figures and their data in `directory`/paper."""
    for run in runner.merged(tables_and_figures.plan(only, preset)):
        leave(run, workdir)
    axis = np.linspace(-1, 1, 5)
    surface = {
        "axis": axis.tolist(),
        "loss": (axis[:, None] ** 2 + axis**2).tolist(),
        "point": [-0.5, 0.5],
        "loss_at_point": 0.5,
        "gradient": [-1.0, 1.0],
        "descent": [0.4, -0.4],
        "descent_in_basis": [0.4, 0.0],
    }
    results.write_json(workdir / "figure1_surface.json", surface)
    workers = {name: [1.0 / count for count in preset.workers] for name in ("coordinates", "updates")}
    results.write_json(workdir / f"figure2_times_{preset.main.config}.json", workers)
    compartments = {name: [1.0 for _ in figure4.numbers(preset.main)] for name in ("normal", "hadamard")}
    results.write_json(workdir / f"figure4_times_{preset.main.config}.json", compartments)
    tables_and_figures.write(only, preset, workdir, directory / "paper")
    series_index.write(workdir, directory / "paper")
