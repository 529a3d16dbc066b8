"""The fully connected network on scikit-learn's handwritten digits: what the smoke test of everything runs.

64-128-10, D = 9,610, d = 30: not in the paper.

A smoke test: no accuracy of it is kept; scripts/quickstart.py measures on the digits.

python scripts/train.py --config=configs/fc_digits.py --config.method=rbd --workdir=runs/fc_digits/rbd
"""

from experiments.training import default_config


def get_config():
    """Rates of the fully connected network; `method` is "rbd", "fpd", "nes", "rbd-nes" or "sgd"."""
    config = default_config()
    config.dataset = "digits"
    config.network = "fc"
    config.dimensions = 30  # an epoch has 34 batches, an update of "nes" takes one for each
    config.learning_rates = {"rbd": 1.0, "fpd": 1.0, "sgd": 0.1, "nes": 1.0, "rbd-nes": 0.2}
    return config
