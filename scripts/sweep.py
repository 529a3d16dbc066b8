"""Learning rates: accuracy of one method for powers of two, on training and on held-out examples.

python scripts/sweep.py --config=fc_mnist --method=rbd --changes=basis=hadamard,optimizer=adam \
    --powers=-12:-5 [--epochs=5] [--seeds=1] [--jobs=N] [--data_dir=DIRECTORY] [--workdir=runs/paper] \
    [--results=results]

`--powers=first:last`: rates from 2^first to 2^last. Runs are those of `scripts/reproduce.py`: what has
finished is not run again. Writes `paper/sweep_<config>_<method>-<changes>.json`, `.png` and `.svg`. Exit
status: as of scripts/reproduce.py.
"""

import os
import re
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags

from experiments import exit_status
from experiments.figures import panels
from experiments.paper import runner, runs, sweep
from random_bases import locks

_CONFIG = flags.DEFINE_string("config", None, "The stem of a file in configs/.")
_METHOD = flags.DEFINE_string("method", "rbd", "As of the configuration.")
_CHANGES = flags.DEFINE_list("changes", [], "key=value of the configuration, as basis=hadamard.")
_POWERS = flags.DEFINE_string("powers", None, "first:last, of two.")
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Of each run.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 1, "Runs for each rate.", lower_bound=1)
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at a time, each on a core of its own.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with <dataset>.npz; else keras.datasets.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/paper", "Where runs go.")
_RESULTS = flags.DEFINE_string("results", "results", "Where data and figure go, into paper/.")

_SECONDS_TO_WRITE = 600.0  # that another process may take


@exit_status.reporting
def main(argv):
    """Runs the sweep and writes what came out."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes are stopped
    workdir = Path(_WORKDIR.value).resolve()
    directory = Path(_RESULTS.value) / "paper"
    which = sweep.series(_CONFIG.value, changes(), powers())
    planned = sweep.plan(which, _EPOCHS.value, _SEEDS.value)
    failures = runner.run_all(
        planned, workdir, _DATA_DIR.value, _JOBS.value, lambda run: runner.estimate(run, workdir)
    )
    name = runs.series(_CONFIG.value, **changes()).name
    content = sweep.content(f"{_CONFIG.value}, {name}", which, workdir, _EPOCHS.value)
    directory.mkdir(parents=True, exist_ok=True)
    with locks.held(directory, _SECONDS_TO_WRITE):
        panels.write(content, directory, f"sweep_{_CONFIG.value}_{name}")
    print(f"best by training accuracy: {content['best_by_training']}")
    print(f"{directory}/sweep_{_CONFIG.value}_{name}.png")
    return exit_status.SOME_FAILED if failures else exit_status.FINISHED


def changes():
    """The configuration's changes, those that are numbers or booleans as such.

    `learning_rate` and `method` are what other flags say.
    """
    found = {"method": _METHOD.value}
    for change in _CHANGES.value:
        key, equals, value = change.partition("=")
        if not equals or key in ("learning_rate", "method"):
            raise ValueError(
                f"--changes={change} is not possible; allowed: key=value, but neither learning_rate "
                "(--powers has it) nor method (--method has it)."
            )
        found[key] = _parsed(value)
    return found


def _parsed(text):
    if text in ("True", "False"):
        return text == "True"
    if re.fullmatch("-?[0-9]+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text  # as a basis


def powers():
    """The powers of two that `--powers` asks for."""
    match = re.fullmatch("(-?[0-9]+):(-?[0-9]+)", _POWERS.value)
    if not match or int(match[1]) > int(match[2]):
        raise ValueError(f'--powers={_POWERS.value} is not possible; allowed: "first:last", as -4:2.')
    return list(range(int(match[1]), int(match[2]) + 1))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "powers"])
    app.run(main)
