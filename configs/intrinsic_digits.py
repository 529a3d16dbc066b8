"""Intrinsic dimension of scikit-learn's handwritten digits: the default, in two minutes.

The fully connected network of Li et al. 2018 (64-200-200-10, D = 55,210) on 8x8 pixels; not in the
paper.

168, with 55,210 parameters; a minute and a half on one core of an AMD EPYC.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_digits.py --workdir=runs/intrinsic_digits
"""

from experiments.intrinsic import default_config


def get_config():
    """1,097 training examples: small batches, many epochs, two seeds."""
    config = default_config()
    config.batch_size = 32
    config.epochs = 40
    config.start = (50,)
    config.seeds = (0, 1)
    return config
