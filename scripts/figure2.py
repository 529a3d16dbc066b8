"""Figure 2 of Gressmann et al. 2020 at small scale: workers that share d directions out.

TF_USE_LEGACY_KERAS=1 python scripts/figure2.py --workdir=runs/figure2 --data_dir=DIRECTORY

Trains FC-MNIST and CNN-FMNIST with 1 to 16 workers ("split", d = 250 in all): virtual devices of one
process, where `exchange="updates"` computes what "coordinates" does and generates each direction once.
Then measures the CPU time of one worker's step, and computes what it sends. Started again, it goes on.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

import numpy as np
import tensorflow as tf
from absl import app, flags

from random_bases.experiments import figures, results, training
from random_bases.optimizers.exchange import Exchange
from random_bases.subspace import Subspace

_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs, figure2.json and figure2.png go.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with <dataset>.npz; else keras.datasets.")
_RUN = flags.DEFINE_string("run", None, "Only this run: network,workers,seed (used by the script itself).")

_WORKERS = (1, 2, 4, 8, 16)
_SEEDS = (0,)
_DIMENSIONS = 250
_NETWORKS = {
    "fc": {"dataset": "mnist", "learning_rate": 4.0, "epochs": 1},
    "cnn": {"dataset": "fashion_mnist", "learning_rate": 0.5, "epochs": 1},
}
_SIZES = {"fc": 101770, "cnn": 93322}
_STEPS = 20  # measured


def train(network, workers, seed):
    """One run in this process, which must have no devices yet."""
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.threading.set_inter_op_parallelism_threads(2 * workers)  # replicas wait for each other
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * workers)
    config = training.default_config()
    config.update(
        {
            **_NETWORKS[network],
            "network": network,
            "data_dir": _DATA_DIR.value,
            "dimensions": _DIMENSIONS,
            "basis": "rademacher",
            "batch_size": 128,  # four times the paper's, and so the learning rates
            "seed": seed,
            "strategy": "mirrored",
            "replicas": "split",
            "exchange": "updates",
        }
    )
    training.run(config, directory(network, workers, seed), verbose=0)


def directory(network, workers, seed):
    """Where a run is."""
    return Path(_WORKDIR.value) / f"{network}-{workers}-{seed}"


class Unconnected:
    """Worker 0 of `count`: what it sends reaches nobody, and the others send what it does."""

    def __init__(self, count):
        self.count = count
        self.index = tf.constant(0)

    def sum(self, tensors):
        return tensors

    def gather(self, c):
        return tf.tile(c[tf.newaxis], [self.count, 1])


def cpu_milliseconds(workers, exchange):
    """The CPU time of one worker's part of a step's random bases, FC-MNIST, normal directions."""
    size = _SIZES["fc"]
    shared = Exchange("split", exchange, _DIMENSIONS, workers, lambda d: Subspace([[size]], d, "normal"))
    gradient = [tf.ones([size])]
    times = []
    for step in range(_STEPS + 2):
        worker, draw = Unconnected(workers), tf.constant(step)
        begin = time.process_time()
        shared.update(shared.project(gradient, 0, draw, worker), 0, draw, worker)[0].numpy()
        times.append(1e3 * (time.process_time() - begin))
    return float(np.median(times[2:]))


def traffic(workers, size):
    """Bytes that each worker sends in a step: (coordinates, updates or SGD's gradients)."""
    share = -(-_DIMENSIONS // workers)
    return 4 * share * (workers - 1), 4 * size * 2 * (workers - 1) // workers


def main(argv):
    """Runs what is not there yet, then writes data and figure."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if _RUN.value:
        network, workers, seed = _RUN.value.split(",")
        return train(network, int(workers), int(seed))
    content = {"dimensions": _DIMENSIONS, "workers": list(_WORKERS), "accuracy": {}, **training.environment()}
    for network in _NETWORKS:
        for workers in _WORKERS:
            for seed in _SEEDS:
                if not (directory(network, workers, seed) / "result.json").exists():
                    flag = f"--run={network},{workers},{seed}"
                    subprocess.run([sys.executable, *sys.argv, flag], check=True)
        content["accuracy"][network] = [
            [
                results.read_json(directory(network, workers, seed) / "result.json")["validation_accuracy"][
                    -1
                ]
                for seed in _SEEDS
            ]
            for workers in _WORKERS
        ]
    content["cpu_milliseconds"] = {
        exchange: [cpu_milliseconds(workers, exchange) for workers in _WORKERS]
        for exchange in ("coordinates", "updates")
    }
    content["bytes_per_step"] = {
        network: [dict(zip(("coordinates", "sgd"), traffic(workers, size))) for workers in _WORKERS]
        for network, size in _SIZES.items()
    }
    results.write_json(Path(_WORKDIR.value) / "figure2.json", content)
    figures.workers(Path(_WORKDIR.value) / "figure2.png", content)
    print(json.dumps({key: content[key] for key in ("accuracy", "cpu_milliseconds", "bytes_per_step")}))
    return 0


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
