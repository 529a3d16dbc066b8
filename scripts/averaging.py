"""Records a training trajectory, shows how many directions it has, and trains in them.

python scripts/averaging.py record --config=configs/trajectory_cnn_fmnist.py --workdir=runs/sgd \
    --config.epochs=20 --config.record=284
python scripts/averaging.py inspect --workdir=runs/sgd
python scripts/averaging.py train --config=configs/trajectory_cnn_fmnist.py --config.method=twa \
    --config.regularization=1e-5 --trajectory=runs/sgd/trajectory --workdir=runs/twa
python scripts/averaging.py compare --workdir=runs

`record` trains by the configuration's SGD and keeps the weights in `workdir/trajectory`; `train` is
scripts/train.py on them. Both go on where they were when killed and started again. `inspect` prints the
part of the variance that principal components explain and draws it in `workdir/explained_variance.png`;
`compare` prints and draws the accuracy of the runs in `workdir` against the epochs behind them.
Exit status: as of scripts/train.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import exit_status, results, training, trajectories

_COMMANDS = ("record", "inspect", "train", "compare")
_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration file, of record and train.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory; compare: that of several runs.")
_TRAJECTORY = flags.DEFINE_string("trajectory", None, "Recorded weights; inspect: else workdir/trajectory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory with <dataset>.npz; else keras.datasets.")
_VERBOSE = flags.DEFINE_enum("verbose", "1", ["0", "1", "2"], "As in keras.Model.fit.")


def _inspect():
    workdir = Path(_WORKDIR.value)
    figure = workdir / "explained_variance.png"
    workdir.mkdir(parents=True, exist_ok=True)
    explained = trajectories.inspect(_TRAJECTORY.value or workdir / "trajectory", figure)
    print(
        results.format_table(
            [{"components": f"{k}", "variance explained": f"{value:.4%}"} for k, value in explained.items()]
        )
    )
    print(f"Figure: {figure}")


def _compare():
    rows = [
        {
            "run": name,
            "method": run["method"].upper(),
            "epochs": f"{run['epochs'][-1]:.1f}",
            "trained dimensions": f"{run['trained_dimensions']:,}",
            "validation": f"{run['validation_accuracy'][-1]:.2%}",
            "test": f"{run['test_accuracy']:.2%}",
        }
        for name, run in trajectories.compare(_WORKDIR.value).items()
    ]
    print(results.format_table(rows))
    print(f"Figure: {_WORKDIR.value}/comparison.png")


def _run(command):
    config = _CONFIG.value
    if config is None:
        raise app.UsageError(f"{command} needs --config.")
    if _DATA_DIR.value is not None:
        config.data_dir = _DATA_DIR.value
    if _TRAJECTORY.value is not None:
        config.trajectory = _TRAJECTORY.value
    if command == "record":
        config.method = "sgd"
        config.record = config.record or "epoch"
    result = training.run(config, _WORKDIR.value, verbose=int(_VERBOSE.value))
    print(
        f"validation accuracy {result['validation_accuracy'][-1]:.4f}, test accuracy "
        f"{result['test_accuracy']:.4f}: {_WORKDIR.value}/result.json"
    )


@exit_status.reporting
def main(argv):
    """Runs the command that the arguments give."""
    if len(argv) != 2 or argv[1] not in _COMMANDS:
        raise app.UsageError(f"one command of {_COMMANDS} is needed, not {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # checkpoints are no news
    if argv[1] == "inspect":
        _inspect()
    elif argv[1] == "compare":
        _compare()
    else:
        _run(argv[1])


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
