"""The fully connected network on MNIST (D = 101,770, d = 250), on one IPU: see docs/ipu.md.

With the IPU's own generator, and the batch and learning rates of configs/fc_mnist.py. Not run on an IPU yet.

python scripts/train.py --config=configs/ipu_fc_mnist.py --config.method=rbd --workdir=runs/ipu_fc_mnist/rbd
"""

from experiments.training import default_config


def get_config():
    """`method` is "rbd", "fpd" or "sgd"; `ipus` replicas share each batch out."""
    config = default_config()
    config.strategy = "ipu"
    config.generator = "native"
    config.dataset = "mnist"
    config.network = "fc"
    config.learning_rates = {"rbd": 1.0, "fpd": 1.0, "sgd": 0.125}
    return config
