"""Averages and subspaces of SGD's trajectory: ResNet-8 on CIFAR-10 (D = 77,850).

SGD records its weights 5 times an epoch (first command); TWA, SWA and DLDR use those of the first half
of its 20 epochs (second one, with method twa, swa or dldr). Li et al. 2022 (arXiv:2205.13104) report
that TWA saves over 30% of the epochs, Li et al. 2021 (arXiv:2103.11154) that 40 dimensions match regular
training.

Here, on test images: sgd 78.6% after 20 epochs; from the first half of them twa 75.1% with 5 more, dldr
75.1% with 5, swa 73.8%: results/averaging. No times were kept.

python scripts/train.py --config=configs/trajectory_resnet8_cifar10.py --config.method=sgd \
    --config.record=250 --config.epochs=20 --workdir=runs/trajectory_resnet8_cifar10/sgd
python scripts/train.py --config=configs/trajectory_resnet8_cifar10.py --config.method=twa \
    --config.regularization=1e-5 --workdir=runs/trajectory_resnet8_cifar10/twa
"""

from experiments.training import default_config


def get_config():
    """`method` is "twa", "swa", "dldr" (with `optimizer` "sgd", "bfgs" or "l-bfgs-b") or "sgd"."""
    config = default_config()
    config.dataset = "cifar10"
    config.network = "resnet8"
    config.method = "twa"
    config.learning_rates = {"sgd": 0.1, "twa": 0.5, "dldr": 0.5}
    config.epochs = 5
    config.schedule = "linear"
    config.dimensions = 40  # of dldr
    config.trajectory = "runs/trajectory_resnet8_cifar10/sgd/trajectory"
    config.snapshots = ":51"  # the initial weights and those of ten epochs
    return config
