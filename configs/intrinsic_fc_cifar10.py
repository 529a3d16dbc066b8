"""Intrinsic dimension of FC-CIFAR-10, as in Li et al. 2018 (3072-200-200-10, D = 656,810): they report 9,000.

Not run here yet.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_fc_cifar10.py \
    --workdir=runs/intrinsic_fc_cifar10
"""

from experiments.intrinsic import default_config


def get_config():
    """Ten epochs of Adam, three seeds; the largest d to begin with is the paper's."""
    config = default_config()
    config.dataset = "cifar10"
    config.network = "fc200"
    config.start = (2250, 4500, 9000)
    return config
