"""Wall time of an evolution update with 1, 2 and 4 workers: `python -m benchmarks.evolution_workers`.

Each worker is a process with tf-keras and one core of its own, as long as there are cores; all are on this
machine. Prints JSON. Takes a minute on two cores, which nothing else should use.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any, Dict

from benchmarks.measure import ROOT

_WORKERS = (1, 2, 4)
_POPULATION, _BATCH, _WIDTHS, _UPDATES = 256, 32, (512, 512), 8


def _launched(workers: int, cores: int) -> Dict[str, Any]:
    """What the first of so many workers prints."""
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_USE_LEGACY_KERAS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / "scripts" / "launch_workers.py"), f"--workers={workers}", "--"]
    command += [sys.executable, "-m", "benchmarks.evolution_workers", str(cores)]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    results = [line.split("RESULT ")[1] for line in done.stdout.decode().splitlines() if "RESULT " in line]
    return {"workers": workers, **json.loads(results[0])}


def _work(cores: int) -> Dict[str, Any]:
    """The median time of an update, of one worker of those that TF_CONFIG tells of."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index % cores]})  # before TensorFlow counts them
    import numpy as np

    import random_bases as rb
    from random_bases.keras_api import keras, set_random_seed

    class Times(keras.callbacks.Callback):
        ended = []

        def on_train_batch_end(self, batch, logs=None):
            self.ended.append(time.perf_counter())

    generator = np.random.default_rng(0)
    x = generator.random((_POPULATION * _BATCH, 784), np.float32)
    y = generator.integers(0, 10, len(x)).astype(np.int32)
    set_random_seed(0)
    with rb.strategies.get("multi_worker").scope():
        hidden = [keras.layers.Dense(width, activation="relu") for width in _WIDTHS]
        model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        nes = rb.NaturalEvolutionStrategies(
            model, _POPULATION, 0.02, learning_rate=1e-3, basis="low_rank", seed=0
        )
    times = Times()
    nes.fit(x, y, batch_size=_BATCH, steps_per_epoch=_UPDATES, verbose=0, callbacks=[times])
    between = np.diff(times.ended)[1:]
    return {"ms": 1e3 * statistics.median(between), "bytes_per_update": nes.bytes_per_update}


def main() -> None:
    """Runs the workers, or is one of them."""
    if "TF_CONFIG" in os.environ:
        print("RESULT " + json.dumps(_work(int(sys.argv[1]))), flush=True)
        return
    from experiments import machine  # it imports TensorFlow, which a worker must not before it has its core

    cores = len(os.sched_getaffinity(0))
    points = [_launched(workers, cores) for workers in _WORKERS]
    print(
        json.dumps({"machine": machine.description(), "population": _POPULATION, "points": points}, indent=1)
    )


if __name__ == "__main__":
    main()
