"""ResNet-8 on scikit-learn's handwritten digits: what the smoke test of everything runs (D = 77,562, d = 30).

A smoke test: no accuracy of it is kept.

python scripts/train.py --config=configs/resnet8_digits.py --config.method=rbd \
    --workdir=runs/resnet8_digits/rbd
"""

from experiments.training import default_config


def get_config():
    """Rates as of CIFAR-10; `method` is "rbd", "fpd", "nes", "rbd-nes" or "sgd"."""
    config = default_config()
    config.dataset = "digits"
    config.network = "resnet8"
    config.dimensions = 30  # an epoch has 34 batches, an update of "nes" takes one for each
    config.learning_rates = {"rbd": 1.0, "fpd": 1.0, "sgd": 0.1, "nes": 1.0, "rbd-nes": 0.2}
    return config
