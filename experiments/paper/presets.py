"""How much of everything is run: `smoke` (minutes), `quick` (hours) and `paper` (all of it).

The directory of one preset serves the next: runs go on where they ended.
"""

from typing import Dict, NamedTuple, Tuple


class Network(NamedTuple):
    """What figures need to know of a configuration.

    Attributes:
      config: the stem of its file in configs/.
      parameters: D.
      dimensions: d.
      rates: learning rates of "sgd" and "rbd", as in the file.
    """

    config: str
    parameters: int
    dimensions: int
    rates: Dict[str, float]


class Preset(NamedTuple):
    """One size of the reproduction.

    Attributes:
      networks: configurations, Table 1's rows.
      main: the network of Figures 4, 5 and 6, and of parts of the augmentation.
      deep: the configuration of Figure 3.
      shared: the configurations of Figure 2.
      workers: the numbers of workers of Figure 2, from 1.
      augmented: networks that are trained without augmentation, too.
      seeds: runs of every series.
      table: configuration -> epochs of Table 1.
      deep_epochs, shared_epochs, figure_epochs: of Figure 3, Figure 2, and Figures 4 to 6.
      results: where tables, figures and the page go, unless another directory is asked for.
      protocol: of Table 1, a key of `protocols.PROTOCOLS`.
    """

    networks: Tuple[str, ...]
    main: Network
    deep: str
    shared: Tuple[str, ...]
    workers: Tuple[int, ...]
    augmented: Tuple[str, ...]
    seeds: int
    table: Dict[str, int]
    deep_epochs: int
    shared_epochs: int
    figure_epochs: int
    results: str
    protocol: str = "table"


_PAPER = ("fc_mnist", "fc_fmnist", "fc_cifar10", "cnn_mnist", "cnn_fmnist", "cnn_cifar10")
_FC_MNIST = Network("fc_mnist", 101_770, 250, {"sgd": 0.125, "rbd": 1.0})
_FC_DIGITS = Network("fc_digits", 9_610, 30, {"sgd": 0.1, "rbd": 1.0})

_SMOKE = Preset(
    networks=("fc_digits", "resnet8_digits"),
    main=_FC_DIGITS,
    deep="resnet8_digits",
    shared=("fc_digits",),
    workers=(1, 2, 4),
    augmented=("fc_digits",),
    seeds=1,
    table={"fc_digits": 10, "resnet8_digits": 2},
    deep_epochs=2,
    shared_epochs=2,
    figure_epochs=5,
    results="runs/smoke",
)
_QUICK = Preset(
    networks=_PAPER,
    main=_FC_MNIST,
    deep="resnet8_cifar10",
    shared=("fc_mnist", "cnn_fmnist"),
    workers=(1, 2, 4, 8, 16),
    augmented=("fc_mnist", "fc_fmnist", "fc_cifar10", "cnn_mnist", "cnn_fmnist"),
    seeds=1,
    table={
        "fc_mnist": 20,
        "fc_fmnist": 20,
        "fc_cifar10": 5,
        "cnn_mnist": 5,
        "cnn_fmnist": 5,
        "cnn_cifar10": 3,
    },
    deep_epochs=5,
    shared_epochs=1,
    figure_epochs=5,
    results="results",
)
PRESETS = {
    "smoke": _SMOKE,
    "quick": _QUICK,
    "paper": _QUICK._replace(
        seeds=3,
        table=dict.fromkeys(_PAPER, 100),
        deep_epochs=100,
        shared_epochs=100,
        figure_epochs=100,
    ),
}
