"""What Gressmann et al. 2020 published (arXiv:2011.04720), and where our protocol is not theirs.

Accuracies are percentages of held-out training examples after 100 epochs.
"""

from typing import Dict, NamedTuple, Tuple


class Accuracy(NamedTuple):
    """Mean and standard deviation of the three runs of a cell of Table 1, and the mean relative to SGD's."""

    mean: float
    deviation: float
    relative: float


EPOCHS = 100
SEEDS = 3
DIMENSIONS = 250

# The configuration of each row of Table 1 (a file in configs/) -> its name there.
NETWORKS = {
    "fc_mnist": "FC-MNIST",
    "fc_fmnist": "FC-FMNIST",
    "fc_cifar10": "FC-CIFAR10",
    "cnn_mnist": "CNN-MNIST",
    "cnn_fmnist": "CNN-FMNIST",
    "cnn_cifar10": "CNN-CIFAR10",
}

TABLE_1: Dict[str, Dict[str, Accuracy]] = {
    "fc_mnist": {
        "nes": Accuracy(22.5, 1.7, 0.23),
        "fpd": Accuracy(80.0, 0.4, 0.81),
        "rbd": Accuracy(93.893, 0.024, 0.96),
        "sgd": Accuracy(98.27, 0.09, 1.0),
    },
    "fc_fmnist": {
        "nes": Accuracy(45.0, 6.0, 0.52),
        "fpd": Accuracy(77.3, 0.29, 0.89),
        "rbd": Accuracy(85.65, 0.2, 0.98),
        "sgd": Accuracy(87.32, 0.21, 1.0),
    },
    "fc_cifar10": {
        "nes": Accuracy(17.8, 0.5, 0.34),
        "fpd": Accuracy(21.4, 1.2, 0.41),
        "rbd": Accuracy(43.77, 0.22, 0.84),
        "sgd": Accuracy(52.09, 0.22, 1.0),
    },
    "cnn_mnist": {
        "nes": Accuracy(51.0, 6.0, 0.51),
        "fpd": Accuracy(88.9, 0.6, 0.89),
        "rbd": Accuracy(97.17, 0.1, 0.98),
        "sgd": Accuracy(99.41, 0.09, 1.0),
    },
    "cnn_fmnist": {
        "nes": Accuracy(37.0, 4.0, 0.4),
        "fpd": Accuracy(77.8, 1.6, 0.85),
        "rbd": Accuracy(85.56, 0.1, 0.93),
        "sgd": Accuracy(91.95, 0.18, 1.0),
    },
    "cnn_cifar10": {
        "nes": Accuracy(20.3, 1.0, 0.25),
        "fpd": Accuracy(37.2, 0.8, 0.46),
        "rbd": Accuracy(54.64, 0.33, 0.67),
        "sgd": Accuracy(81.4, 0.4, 1.0),
    },
}

# Figure 3: by how many points RBD is better than another method (ResNet-8, CIFAR-10, d = 500).
FIGURE_3_NAMES = {"resnet8_cifar10": "ResNet-8, CIFAR-10, d = 500"}
FIGURE_3_GAPS = {"fpd": 20.5, "nes": 39.6}

# How far a mean may be from the paper's, in points, to be called the same.
TARGET = 2.0

# What each figure shows in the paper.
FIGURES = {
    "figure1": "A loss surface, the steepest descent at a point, and its part in a random plane.",
    "figure2": "Shared out over 1, 8 and 16 workers, directions reach the same accuracy in less time (a plot "
    "without numbers).",
    "figure3": "RBD is better than FPD by 20.5 points and than NES by 39.6, at the same d; SGD is best.",
    "figure4": "More compartments, at a constant number of directions: more accurate and faster (a plot "
    "without numbers).",
    "figure5": "Gaussian directions are more accurate than Uniform[-1, 1] ones and Bernoulli ones (a plot "
    "without numbers).",
    "figure6": "Not in the paper: d up to D was computationally prohibitive.",
}

# Protocol: (subject, the paper's, ours). Where nothing is said it is the paper's.
DIFFERENCES: Tuple[Tuple[str, str, str], ...] = (
    (
        "held-out examples",
        "10,000 of the training examples, a contiguous block",
        "10,000 of the training examples: the last ones",
    ),
    (
        "directions of FPD",
        "normal",
        "Hadamard: exactly orthonormal, and far cheaper to generate",
    ),
    (
        "directions of RBD",
        "normal",
        "Hadamard; Table 1 and Figure 5 have normal ones beside them, Figure 2 random signs",
    ),
    (
        "Figure 2",
        "several IPUs; its batches are not stated",
        "virtual devices of one CPU, batches of 32 for each worker; CNN-FMNIST at rate 2, not 0.125",
    ),
    (
        "learning rates of Figure 3",
        "not stated",
        "RBD's and FPD's by a sweep of one epoch; SGD's and NES's not tuned",
    ),
    (
        "augmentation in Table 1",
        "not stated; the 2020 code augments by default",
        "SGD's and error feedback's images only; --protocol=code: all",
    ),
    (
        "learning rates in Table 1",
        "a table of them, of which NES is no part",
        "SGD's as there; NES, FPD and RBD at 1/4; --protocol=code: as there, NES's as RBD's",
    ),
    (
        "FPD's gradient",
        "taken one update behind: coordinates are never reset",
        "taken at the weights that are updated",
    ),
    (
        "epochs of NES",
        "the 2020 code counts an update as an epoch",
        "100 updates in Table 1; --protocol=code and Figure 3: an epoch of images, 6.25 updates",
    ),
    (
        "update of NES",
        "the 2020 code divides directions by sqrt(D) in the update, but not in the perturbation",
        "the same (update_scale='paper')",
    ),
    (
        "random numbers",
        "the 2020 code's seeds collide across steps and workers",
        "no two directions share one",
    ),
    ("machine", "Graphcore IPU, and CPU", "one core of a CPU"),
)
