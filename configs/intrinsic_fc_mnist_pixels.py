"""Intrinsic dimension of FC-MNIST with shuffled pixels, as in Li et al. 2018.

784-200-200-10, D = 199,210: they report 750.

548 after ten epochs, one seed; at d = 750 91.8% of direct training: results/intrinsic_dimension. 80 seconds
on one core of an AMD EPYC that was busy with other work.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_fc_mnist_pixels.py \
    --workdir=runs/intrinsic_fc_mnist_pixels
"""

from experiments.intrinsic import default_config


def get_config():
    """Ten epochs of Adam, three seeds; the largest d to begin with is the paper's."""
    config = default_config()
    config.dataset = "mnist"
    config.shuffle = "pixels"
    config.network = "fc200"
    config.start = (200, 400, 750)
    return config
