"""Intrinsic dimension of LeNet-MNIST, as in Li et al. 2018 (LeNet, D = 44,426): they report 290.

244 after ten epochs; at d = 290 91.7% of direct training. About ten minutes on one core of an AMD EPYC.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_lenet_mnist.py \
    --workdir=runs/intrinsic_lenet_mnist
"""

from experiments.intrinsic import default_config


def get_config():
    """Ten epochs of Adam, three seeds; the largest d to begin with is the paper's."""
    config = default_config()
    config.dataset = "mnist"
    config.network = "lenet"
    config.start = (70, 145, 290)
    return config
