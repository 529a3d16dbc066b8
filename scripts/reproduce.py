"""Table 1 and Figures 1 to 6 of the reproduction of Gressmann et al. 2020, with one command.

python scripts/reproduce.py [--preset=smoke|quick|paper] [--only=table1,figure3] [--protocol=table|code] \
    [--jobs=N] [--data_dir=DIRECTORY] [--workdir=runs/paper] [--results=DIRECTORY] [--list] [--norun]

`smoke` (default) takes minutes on handwritten digits, `quick` hours, `paper` has 100 epochs and 3 seeds.
`--protocol`: how Table 1's runs are made where the paper does not say, `table` (default) as gives its
accuracies, `code` as the 2020 code does by default (experiments/paper/protocols.py; table1_code.*).
Shows what is done and what is left, runs that, and writes tables (Markdown, CSV), figures (PNG, SVG), their
data (JSON) and the page, `report.html`. Killed at any moment and started again it goes on; what has
finished is not run again, and the runs of a smaller preset are continued by a larger one. `--list` only
shows the plan, `--norun` writes tables, figures and page of what has run until now. Exit status: 0 all
finished, 7 some runs failed or diverged, others as of scripts/train.py.
"""

import datetime
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags

from experiments import exit_status, results
from experiments.paper import presets, protocols, report, runner, runs, series_index, tables_and_figures
from random_bases import locks

_PRESET = flags.DEFINE_enum("preset", "smoke", list(presets.PRESETS), "How much is run.")
_ONLY = flags.DEFINE_list("only", list(tables_and_figures.ALL), "Tables and figures.")
_PROTOCOL = flags.DEFINE_enum("protocol", "table", list(protocols.PROTOCOLS), "How Table 1's runs are made.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at a time, each on a core of its own.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with <dataset>.npz; else keras.datasets.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/paper", "Where runs go.")
_RESULTS = flags.DEFINE_string("results", None, "Where tables, figures and the page go; else as the preset.")
_LIST = flags.DEFINE_bool("list", False, "Show the plan, and do nothing else.")
_RUN = flags.DEFINE_bool("run", True, "Run what is left; else only write what has run.")

_SECONDS_TO_WRITE = 600.0  # that another process may take for tables, figures and page


@exit_status.reporting
def main(argv):
    """Plans, runs and writes what the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes are stopped
    preset = presets.PRESETS[_PRESET.value]._replace(protocol=_PROTOCOL.value)
    workdir = Path(_WORKDIR.value).resolve()
    directory = Path(_RESULTS.value or preset.results)
    tables_and_figures.check(_ONLY.value)
    planned = tables_and_figures.plan(_ONLY.value, preset)
    show(planned, workdir)
    if _LIST.value:
        return exit_status.FINISHED
    failures = []
    if _RUN.value:
        failures = runner.run_all(
            planned, workdir, _DATA_DIR.value, _JOBS.value, lambda run: runner.estimate(run, workdir)
        )
    (directory / "paper").mkdir(parents=True, exist_ok=True)
    with locks.held(directory / "paper", _SECONDS_TO_WRITE):
        tables_and_figures.write(_ONLY.value, preset, workdir, directory / "paper")
        series_index.write(workdir, directory / "paper")
        report.write(directory)
    print(f"Tables and figures: {directory / 'paper'}\nPage: {directory / 'report.html'}")
    some_failed = failures or diverged(planned, workdir)
    return exit_status.SOME_FAILED if some_failed else exit_status.FINISHED


def show(planned, workdir):
    """Prints what is done and what is left, with an estimate of its time."""
    rows = {}
    for run in runner.merged(planned):
        name = f"{run.series.config}/{run.series.name}"
        row = rows.setdefault(name, {"done": 0, "left": 0, "epochs": run.epochs, "seconds": 0.0})
        state = runs.state(run, workdir)
        row["left" if state.status == "left" else "done"] += 1
        if state.status == "left":
            row["seconds"] += runner.estimate(run, workdir) * max(0.0, 1 - state.epochs / run.epochs)
    if rows:
        print(results.format_table([_line(name, row) for name, row in rows.items()]))
    number = sum(row["left"] for row in rows.values())
    left = duration(sum(row["seconds"] for row in rows.values()) / _JOBS.value)
    print(f"\n{number} runs left, about {left} with {_JOBS.value} at a time.\n", flush=True)


def _line(name, row):
    return {
        "runs": name,
        "epochs": str(row["epochs"]),
        "done": str(row["done"]),
        "left": str(row["left"]),
        "about": duration(row["seconds"]) if row["left"] else "",
    }


def duration(seconds):
    """As "1:02:03"."""
    return str(datetime.timedelta(seconds=round(seconds)))


def diverged(planned, workdir):
    """Names the runs that diverged; returns their number."""
    found = [run for run in runner.merged(planned) if runs.state(run, workdir).status == "diverged"]
    for run in found:
        print(f"diverged: {run.directory(workdir)}")
    return len(found)


if __name__ == "__main__":
    app.run(main)
