"""Runs one experiment from one configuration.

python scripts/train.py --config=configs/fc_mnist.py --config.method=rbd --config.dimensions=250 \
    --workdir=runs/fc_mnist/rbd

A run that was killed goes on where it was when the same command is given again; a finished one is not
run again without --overwrite. Exit status: 0 finished, 2 a configuration that is refused, 3 diverged, 4 what
the workdir holds is damaged, 5 it cannot be written or read, 6 another process is writing there.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

import tensorflow as tf
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import exit_status, training

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory with <dataset>.npz; else keras.datasets.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Start anew, discarding a run in workdir.")
_VIRTUAL_DEVICES = flags.DEFINE_integer(
    "virtual_devices", 1, "So many devices are made of the CPU, for config.strategy=mirrored.", lower_bound=1
)
_VERBOSE = flags.DEFINE_enum("verbose", "1", ["0", "1", "2"], "As in keras.Model.fit.")


def split_cpu(number):
    """Makes virtual devices of the CPU."""
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.threading.set_inter_op_parallelism_threads(2 * number)  # replicas wait for each other
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * number)


@exit_status.reporting
def main(argv):
    """Runs the configuration that the flags give."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # checkpoints are no news
    if _VIRTUAL_DEVICES.value > 1:
        split_cpu(_VIRTUAL_DEVICES.value)
    config = _CONFIG.value
    if _DATA_DIR.value is not None:
        config.data_dir = _DATA_DIR.value
    result = training.run(config, _WORKDIR.value, _OVERWRITE.value, int(_VERBOSE.value))
    time = f"{result['seconds']:.1f} s"
    if "milliseconds_per_step" in result:
        time = f"{result['milliseconds_per_step']:.2f} ms a step"
    print(
        f"validation accuracy {result['validation_accuracy'][-1]:.4f}, test accuracy "
        f"{result['test_accuracy']:.4f}, {time}: {_WORKDIR.value}/result.json"
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
