"""Figure 2: workers that share d directions out: accuracy, CPU time of a worker, bytes it sends.

Each worker has batches of its own, as large as the paper's, and all runs make the same number of updates:
so a run with K workers sees K times the images. (With one batch shared out, the gradients that workers
project get noisier as their parts shrink.) Workers are virtual devices of one process, where
`exchange="updates"` computes what "coordinates" does and generates each direction once. CPU time is of one
worker's part of a step's random bases.
"""

from pathlib import Path
from typing import Any, Dict, List, Sequence

import tensorflow as tf

from experiments import training
from experiments.figures import panels
from experiments.paper import published, runs, timing
from experiments.paper.presets import Network, Preset
from random_bases.optimizers.exchange import Exchange
from random_bases.subspace import Subspace

_BATCH = 32  # of a worker
# The convolutional network's is larger than the paper's, at which it learns little in a few epochs.
_RATES = {"fc_mnist": 1.0, "cnn_fmnist": 2.0, "fc_digits": 1.0}
_EXCHANGES = ("coordinates", "updates")


def series(config: str, preset: Preset) -> Dict[int, runs.Series]:
    """Number of workers -> series."""
    return {
        workers: runs.series(
            config,
            "rbd",
            workers=workers,
            basis="rademacher",
            batch_size=_BATCH * workers,
            learning_rate=_RATES[config],
            strategy="mirrored",
            replicas="split",
            exchange="updates",
        )
        for workers in preset.workers
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the figure needs."""
    return [
        run
        for config in preset.shared
        for workers, each in series(config, preset).items()
        for run in each.runs(preset.shared_epochs * workers, preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure2.json` holds."""
    accuracy, diverged = [], []
    for config in preset.shared:
        which = series(config, preset)
        # Epochs of one worker, which has as many updates in one as K workers in K.
        whole = [runs.measured(each, workdir).epochs // workers for workers, each in which.items()]
        epochs = min((epochs for epochs in whole if epochs), default=0)
        points = [
            (workers, runs.measured(each, workdir, epochs * workers)) for workers, each in which.items()
        ]
        points = [(workers, each) for workers, each in points if each.epochs == epochs * workers]
        label = f"{published.NETWORKS.get(config, config)}, updates of {epochs} epochs"
        accuracy.append(runs.measured_line(label, points))
        named = {f"{config}, {workers}": each for workers, each in which.items()}
        diverged.extend(runs.diverged(named, workdir))
    main = preset.main
    times = timing.kept(workdir / f"figure2_times_{main.config}.json", lambda: _times(main, preset.workers))
    relative = [
        panels.line(name, preset.workers, [value / times[name][0] for value in times[name]])
        for name in _EXCHANGES
    ]
    several = [workers for workers in preset.workers if workers > 1]
    sent = [traffic(workers, main) for workers in several]
    bytes_sent = [
        panels.line(f"{main.dimensions} coordinates", several, [each["coordinates"] for each in sent]),
        panels.line("SGD's gradients", several, [each["sgd"] for each in sent]),
    ]
    return {
        "panels": [
            panels.panel(
                "Accuracy", "workers", "validation accuracy (%)", accuracy, "log", diverged=diverged
            ),
            panels.panel("CPU time of a worker's bases", "workers", "relative to one", relative, "log"),
            panels.panel("Traffic of a worker", "workers", "bytes a step", bytes_sent, "log", "log"),
        ],
        "cpu_milliseconds": times,
        **training.environment(),
    }


def _times(network: Network, numbers: Sequence[int]) -> Dict[str, List[float]]:
    return {
        exchange: [_cpu_milliseconds(network, workers, exchange) for workers in numbers]
        for exchange in _EXCHANGES
    }


class _Unconnected:
    """Worker 0 of `count`: what it sends reaches nobody, and the others send what it does."""

    def __init__(self, count):
        self.count = count
        self.index = tf.constant(0)

    def sum(self, tensors):
        return tensors

    def gather(self, c):
        return tf.tile(c[tf.newaxis], [self.count, 1])


def _cpu_milliseconds(network: Network, workers: int, exchange: str) -> float:
    """The CPU time of one worker's part of a step's random bases, normal directions."""
    size = network.parameters
    shared = Exchange(
        "split", exchange, network.dimensions, workers, lambda d: Subspace([[size]], d, "normal")
    )
    gradient = [tf.ones([size])]
    worker = _Unconnected(workers)

    def step(number: int):
        draw = tf.constant(number)
        shared.update(shared.project(gradient, 0, draw, worker), 0, draw, worker)[0].numpy()

    return timing.cpu_milliseconds(step)


def traffic(workers: int, network: Network) -> Dict[str, int]:
    """Bytes that each worker sends in a step: its coordinates to all others, or SGD's ring all-reduce."""
    share = -(-network.dimensions // workers)
    return {
        "coordinates": 4 * share * (workers - 1),
        "sgd": 4 * network.parameters * 2 * (workers - 1) // workers,
    }


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `figure2.json`, `figure2.png` and `figure2.svg`."""
    panels.write(found, directory, "figure2")
