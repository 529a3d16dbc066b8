"""Intrinsic dimension of LeNet-MNIST with shuffled pixels, as in Li et al. 2018.

LeNet, D = 44,426: they report 1,400.

Not run here yet.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_lenet_mnist_pixels.py \
    --workdir=runs/intrinsic_lenet_mnist_pixels
"""

from experiments.intrinsic import default_config


def get_config():
    """Ten epochs of Adam, three seeds; the largest d to begin with is the paper's."""
    config = default_config()
    config.dataset = "mnist"
    config.shuffle = "pixels"
    config.network = "lenet"
    config.start = (350, 700, 1400)
    return config
