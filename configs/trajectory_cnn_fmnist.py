"""Averages and subspaces of SGD's trajectory: the convolutional network on Fashion-MNIST (D = 93,322).

SGD records its weights 5 to 6 times an epoch (first command); TWA, SWA and DLDR use those of the first
half of its 20 epochs (second one, with method twa, swa or dldr). Li et al. 2022 (arXiv:2205.13104)
report that TWA saves over 30% of the epochs, Li et al. 2021 (arXiv:2103.11154) that 40 dimensions match
regular training.

Here, on test images: sgd 90.0% after 20 epochs; from the first half of them twa 88.3% with 5 more, dldr
88.5% with 10, swa 88.0%: results/averaging. No times were kept.

python scripts/train.py --config=configs/trajectory_cnn_fmnist.py --config.method=sgd \
    --config.record=284 --config.epochs=20 --workdir=runs/trajectory_cnn_fmnist/sgd
python scripts/train.py --config=configs/trajectory_cnn_fmnist.py --config.method=twa \
    --config.regularization=1e-5 --workdir=runs/trajectory_cnn_fmnist/twa
"""

from experiments.training import default_config


def get_config():
    """`method` is "twa", "swa", "dldr" (with `optimizer` "sgd", "bfgs" or "l-bfgs-b") or "sgd"."""
    config = default_config()
    config.dataset = "fashion_mnist"
    config.network = "cnn"
    config.method = "twa"
    config.learning_rates = {"sgd": 0.0625, "twa": 0.125, "dldr": 0.5}
    config.epochs = 5
    config.schedule = "linear"
    config.dimensions = 40  # of dldr
    config.trajectory = "runs/trajectory_cnn_fmnist/sgd/trajectory"
    config.snapshots = ":56"  # the initial weights and those of ten epochs
    return config
