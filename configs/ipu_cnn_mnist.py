"""The convolutional network on MNIST (D = 93,322, d = 250), on one IPU: see docs/ipu.md.

With the IPU's own generator, and the batch and learning rates of configs/cnn_mnist.py. Not run on an IPU yet.

python scripts/train.py --config=configs/ipu_cnn_mnist.py --config.method=rbd --workdir=runs/ipu_cnn_mnist/rbd
"""

from experiments.training import default_config


def get_config():
    """`method` is "rbd", "fpd" or "sgd"; `ipus` replicas share each batch out."""
    config = default_config()
    config.strategy = "ipu"
    config.generator = "native"
    config.dataset = "mnist"
    config.network = "cnn"
    config.learning_rates = {"rbd": 0.0625, "fpd": 0.0625, "sgd": 0.03125}
    return config
