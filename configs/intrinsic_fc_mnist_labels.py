"""Intrinsic dimension of memorising MNIST with shuffled labels, as in Li et al. 2018.

784-400-400-400-400-400-10, D = 959,610, training accuracy: they report 190,000. Not run yet: at least
100 epochs for each d, several hours on a CPU.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_fc_mnist_labels.py \
    --workdir=runs/intrinsic_fc_mnist_labels
"""

from experiments.intrinsic import default_config


def get_config():
    """A hundred epochs of Adam, one seed; the d to begin with is the paper's."""
    config = default_config()
    config.dataset = "mnist"
    config.shuffle = "labels"
    config.network = "fc400x5"
    config.accuracy = "train"
    config.epochs = 100
    config.start = (190_000,)
    config.seeds = (0,)
    return config
