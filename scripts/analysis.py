"""The analyses of the paper on one network and data set: figures and their data.

python scripts/analysis.py [--workdir=runs/analysis] [--only=landscape,curvature] [--dataset=digits] \
    [--data_dir=DIRECTORY] [--network=fc] [--epochs=10] [--dimensions=100] [--seed=0]

The default takes scikit-learn's handwritten digits and two to three minutes on two cores. Analyses are
gradient_correlation, orthogonality, approximation, landscape and curvature; each writes a JSON file and
a PNG. What is there already is not run again. Exit status: as of scripts/train.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags, logging

from experiments import analyses, exit_status

_WORKDIR = flags.DEFINE_string("workdir", "runs/analysis", "Where data and figures go.")
_ONLY = flags.DEFINE_list("only", list(analyses.NAMES), "The analyses to run.")
_DATASET = flags.DEFINE_string("dataset", "digits", "digits, mnist, fashion_mnist or cifar10.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with <dataset>.npz; else keras.datasets.")
_NETWORK = flags.DEFINE_string("network", "fc", "A name in experiments.networks.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs of each training.")
_DIMENSIONS = flags.DEFINE_integer("dimensions", 100, "Directions, where they are not varied.")
_SEED = flags.DEFINE_integer("seed", 0, "Of initial weights, order of the data and directions.")


@exit_status.reporting
def main(argv):
    """Runs the analyses that the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # checkpoints are no news
    config = analyses.default_config()
    config.dataset, config.data_dir, config.network = _DATASET.value, _DATA_DIR.value, _NETWORK.value
    config.epochs, config.dimensions, config.seed = _EPOCHS.value, _DIMENSIONS.value, _SEED.value
    found = analyses.run(config, _WORKDIR.value, _ONLY.value)
    for name in found:
        print(f"{_WORKDIR.value}/{name}.png  {_WORKDIR.value}/{name}.json")


if __name__ == "__main__":
    app.run(main)
