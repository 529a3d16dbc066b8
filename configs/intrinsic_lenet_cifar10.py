"""Intrinsic dimension of LeNet-CIFAR-10, as in Li et al. 2018 (LeNet, D = 62,006): they report 2,900.

Not run here yet.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_lenet_cifar10.py \
    --workdir=runs/intrinsic_lenet_cifar10
"""

from experiments.intrinsic import default_config


def get_config():
    """Ten epochs of Adam, three seeds; the largest d to begin with is the paper's."""
    config = default_config()
    config.dataset = "cifar10"
    config.network = "lenet"
    config.start = (725, 1450, 2900)
    return config
