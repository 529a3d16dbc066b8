"""The convolutional network on CIFAR-10 (D = 122,570) on a POD-16: 16 replicas share d = 4,000 out.

As in Gressmann et al. 2020, section 3.3: each replica projects the gradient of its part of the batch on 250
directions of its own, all coordinates are gathered, and every replica generates all directions. Eight
instances with two replicas each; `workdir` must be seen by all. Not run on an IPU yet: docs/ipu.md.

poprun --num-instances=8 --num-replicas=16 python scripts/train.py \
    --config=configs/ipu_pod16_cnn_cifar10.py --config.method=rbd --workdir=runs/ipu_pod16_cnn_cifar10/rbd
"""

from experiments.training import default_config


def get_config():
    """`method` is "rbd" or "sgd"."""
    config = default_config()
    config.strategy = "ipu_pod"
    config.generator = "native"
    config.dataset = "cifar10"
    config.network = "cnn"
    config.replicas = "split"
    config.dimensions = 4000
    config.batch_size = 16 * 32
    # Those of configs/cnn_cifar10.py; not tuned for this batch.
    config.learning_rates = {"rbd": 0.125, "sgd": 0.015625}
    return config
