"""Accuracy against bytes of trained networks, and effective ranks in training: figures and their data.

python scripts/small_files.py [--workdir=runs/small_files] [--dataset=digits] [--data_dir=DIRECTORY] \
    [--network=fc] [--epochs=10] [--seed=0]

A network in d random directions, stored as coordinates of 32, 8 and 4 bits, beside SGD's with kernels cut
down by truncated SVDs. The default takes scikit-learn's handwritten digits and a minute on two cores. Writes
`results.json`, `accuracy.png` and `effective_ranks.png`. Exit status: as of scripts/train.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags

from experiments import exit_status, results, small_files

_WORKDIR = flags.DEFINE_string("workdir", "runs/small_files", "Where data and figures go.")
_DATASET = flags.DEFINE_string("dataset", "digits", "digits, mnist, fashion_mnist or cifar10.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with <dataset>.npz; else keras.datasets.")
_NETWORK = flags.DEFINE_string("network", "fc", "A name in experiments.networks.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs of each training.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of initial weights, order of the data and directions.")


@exit_status.reporting
def main(argv):
    """Trains, and writes the figures."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    config = small_files.default_config()
    config.dataset, config.data_dir, config.network = _DATASET.value, _DATA_DIR.value, _NETWORK.value
    config.epochs, config.seed = _EPOCHS.value, _SEED.value
    content = small_files.run(config, Path(_WORKDIR.value))
    labels = {
        "subspace": "one vector, d = {dimensions:,}",
        "truncated_change": "SVD of what changed, rank {rank}",
        "truncated_svd": "SVD, rank {rank}",
    }
    rows = [
        {
            "file": label.format(**point),
            "bits": str(point["bits"]),
            "bytes": f"{point['bytes']:,}",
            "test accuracy": f"{100 * point['accuracy']:.1f}%",
        }
        for name, label in labels.items()
        for point in content[name]
    ]
    print(results.format_table(rows))
    print(f"\nSGD: {content['sgd_accuracy']:.2%} with {4 * content['parameters']:,} bytes")
    print(f"Figures and data: {_WORKDIR.value}")


if __name__ == "__main__":
    app.run(main)
