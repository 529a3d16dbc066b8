"""Fine-tuning by forward passes alone: how many the ways to use them need. Accuracy, not speed.

python -m benchmarks.zeroth_order [--data_dir=DIRECTORY] [--output=results/benchmarks/zeroth_order.json]

FC, trained on MNIST, is fine-tuned to the images moved by three pixels, with as many forward passes of 64
examples by each way:

| way                     | offspring of an update                                                          |
| ----------------------- | ------------------------------------------------------------------------------- |
| SPSA                    | a pair, its difference (Malladi et al. 2023, arXiv:2305.17333)                  |
| SPSA, normalised        | a pair, the sign of its difference                                              |
| pairs, mean             | n / 2 pairs, the mean of their differences                                      |
| one-sided, mean         | n on one batch, less their mean                                                 |
| one-sided, normalised   | the same, divided by the losses' deviation (FZOO, arXiv:2506.09034)             |

Each with rademacher directions, the best of several rates, three seeds. A quarter of an hour on 2 cores.
"""

import sys
from typing import Any, Callable, Dict, List, NamedTuple, Union

import numpy as np
import tensorflow as tf  # first: Keras 2.6 under absl needs it before app.run
from absl import app, flags

import random_bases as rb
from experiments import datasets, machine, networks, results
from random_bases.keras_api import set_random_seed

_PASSES = 2048
_BATCH = 64
_MOVED = 3  # pixels
_SIGMA = 1e-3
_SEEDS = (0, 1, 2)

_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with mnist.npz; else keras.datasets.")
_OUTPUT = flags.DEFINE_string("output", "results/benchmarks/zeroth_order.json", "The file of the results.")


class Way(NamedTuple):
    """How an update uses its forward passes.

    Attributes:
      population, antithetic: as of `NaturalEvolutionStrategies`.
      fitness: as there.
      powers: of two, the rates that are tried.
    """

    population: int
    antithetic: bool
    fitness: Union[str, Callable]
    powers: range


def less_their_mean(fitness: tf.Tensor) -> tf.Tensor:
    """What one-sided offspring count for: the others are what each is compared to."""
    return fitness - tf.reduce_mean(fitness)


WAYS: Dict[str, Way] = {
    "SPSA": Way(2, True, "raw", range(-18, -11)),
    "SPSA, normalised": Way(2, True, "normalized", range(-22, -15)),
    "pairs, mean, n = 8": Way(8, True, "raw", range(-16, -9)),
    "one-sided, mean, n = 8": Way(8, False, less_their_mean, range(-16, -9)),
    "one-sided, normalised, n = 8": Way(8, False, "normalized", range(-22, -15)),
    "one-sided, normalised, n = 32": Way(32, False, "normalized", range(-21, -14)),
}


def _moved(images: np.ndarray) -> np.ndarray:
    return np.roll(images, _MOVED, axis=2)


def _pretrained(data: datasets.ImageDataset) -> List[np.ndarray]:
    set_random_seed(0)
    model = networks.get("fc", data.input_shape, data.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data.train.images, data.train.labels, batch_size=128, epochs=2, verbose=0)
    return model.get_weights()


def tuned(
    data: datasets.ImageDataset, weights: List[np.ndarray], way: Way, rate: float, seed: int
) -> Dict[str, Any]:
    """The held-out accuracy of a fine-tuned network, and the forward passes that it took.

    Args:
      data: images, not yet moved.
      weights: pretrained ones.
      way: how.
      rate: the learning rate.
      seed: of directions and batches.
    """
    model = networks.get("fc", data.input_shape, data.num_classes)
    model.set_weights(weights)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    nes = rb.NaturalEvolutionStrategies(
        model,
        way.population,
        _SIGMA,
        learning_rate=rate,
        fitness=way.fitness,
        antithetic=way.antithetic,
        minibatch="shared",
        basis="rademacher",
        seed=seed,
    )
    updates = _PASSES // way.population
    images = _moved(data.train.images)
    nes.fit(images, data.train.labels, batch_size=_BATCH, epochs=1, steps_per_epoch=updates, verbose=0)
    _, accuracy = model.evaluate(_moved(data.test.images), data.test.labels, batch_size=1000, verbose=0)
    return {"accuracy": float(accuracy), "passes": updates * way.population}


def main(arguments: List[str]) -> None:
    """Runs all ways and writes what came out."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    data = datasets.load("mnist", _DATA_DIR.value or None)
    weights = _pretrained(data)
    model = networks.get("fc", data.input_shape, data.num_classes)
    model.set_weights(weights)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    before = model.evaluate(_moved(data.test.images), data.test.labels, batch_size=1000, verbose=0)[1]
    print(f"before: {before:.4f}")
    rows = []
    for name, way in WAYS.items():
        found = {}
        for power in way.powers:
            found[power] = tuned(data, weights, way, 2.0**power, _SEEDS[0])
        best = max(found, key=lambda power: found[power]["accuracy"])
        seeds = [found[best], *(tuned(data, weights, way, 2.0**best, seed) for seed in _SEEDS[1:])]
        accuracies = [each["accuracy"] for each in seeds]
        rows.append(
            {
                "way": name,
                "passes": seeds[0]["passes"],
                "rates": {f"2^{power}": each["accuracy"] for power, each in found.items()},
                "best rate": f"2^{best}",
                "accuracies": accuracies,
                "mean": float(np.mean(accuracies)),
            }
        )
        print(f"{name}: {rows[-1]['mean']:.4f} at 2^{best}, {accuracies}", flush=True)
    results.write_json(
        _OUTPUT.value,
        {
            "command": " ".join(["python -m benchmarks.zeroth_order", *sys.argv[1:]]),
            "machine": machine.description(),
            "before": before,
            "ways": rows,
        },
    )


if __name__ == "__main__":
    app.run(main)
