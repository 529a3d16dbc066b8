"""Figure 2: workers that share d directions out: accuracy, CPU time of a worker, bytes it sends.

Workers are virtual devices of one process, where `exchange="updates"` computes what "coordinates" does and
generates each direction once. CPU time is of one worker's part of a step's random bases.
"""

from pathlib import Path
from typing import Any, Dict, List

import tensorflow as tf

from random_bases.experiments import training
from random_bases.experiments.paper import panels, published, runs, timing
from random_bases.experiments.paper.presets import Network, Preset
from random_bases.optimizers.exchange import Exchange
from random_bases.subspace import Subspace

WORKERS = (1, 2, 4, 8, 16)
# Four times the paper's batch, and so its rates: fewer, larger steps.
_BATCH = 128
_RATES = {"fc_mnist": 4.0, "cnn_fmnist": 0.5, "fc_digits": 4.0}
_EXCHANGES = ("coordinates", "updates")


def series(config: str) -> List[runs.Series]:
    """One for each number of workers."""
    return [
        runs.series(
            config,
            "rbd",
            workers=workers,
            basis="rademacher",
            batch_size=_BATCH,
            learning_rate=_RATES[config],
            strategy="mirrored",
            replicas="split",
            exchange="updates",
        )
        for workers in WORKERS
    ]


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the figure needs."""
    return [
        run
        for config in preset.shared
        for each in series(config)
        for run in each.runs(preset.shared_epochs, preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure2.json` holds."""
    accuracy = []
    for config in preset.shared:
        epochs = runs.common_epochs(series(config), workdir)
        label = f"{published.NETWORKS.get(config, config)}, {epochs} epochs"
        accuracy.append(runs.accuracy_line(label, list(zip(WORKERS, series(config))), workdir, epochs))
    main = preset.main
    times = timing.kept(workdir / "figure2_times.json", lambda: _times(main))
    relative = [
        panels.line(name, WORKERS, [value / times[name][0] for value in times[name]]) for name in _EXCHANGES
    ]
    several = [workers for workers in WORKERS if workers > 1]
    sent = [traffic(workers, main) for workers in several]
    bytes_sent = [
        panels.line(f"{main.dimensions} coordinates", several, [each["coordinates"] for each in sent]),
        panels.line("SGD's gradients", several, [each["sgd"] for each in sent]),
    ]
    return {
        "panels": [
            panels.panel("Accuracy", "workers", "validation accuracy (%)", accuracy, "log"),
            panels.panel("CPU time of a worker's bases", "workers", "relative to one", relative, "log"),
            panels.panel("Traffic of a worker", "workers", "bytes a step", bytes_sent, "log", "log"),
        ],
        "cpu_milliseconds": times,
        **training.environment(),
    }


def _times(network: Network) -> Dict[str, List[float]]:
    return {
        exchange: [_cpu_milliseconds(network, workers, exchange) for workers in WORKERS]
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
