"""How small the file of a trained network can be: coordinates in a subspace, or truncated SVDs afterwards.

One network is trained by SGD, whose kernels are then cut down to lower and lower ranks
(`random_bases.analysis.truncated_svd`): as they are, or what training has changed of them, as a seed gives
the rest. Others train in d fixed Hadamard directions with Adam, and their coordinates are exported
(`SubspaceModel.export_compressed`) in 32, 8 and 4 bits and loaded again. A network trained by random bases
descent tells how the effective ranks of its kernels go, beside SGD's. All learning rates fall linearly to
zero; no images are augmented.
"""

import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import ml_collections
import numpy as np

import random_bases as rb
from experiments import datasets, networks, results
from experiments.figures import panels
from random_bases import arguments
from random_bases.analysis import truncated_svd
from random_bases.keras_api import keras, path_of, set_random_seed
from random_bases.models.compression import BITS
from random_bases.models.subspace_model import clone_model


def default_config() -> ml_collections.ConfigDict:
    """What `run` takes.

    Keys:
      dataset, data_dir, network: as for scripts/train.py.
      epochs, batch_size, seed: of every training.
      learning_rates: of "sgd", of Adam on coordinates, "subspace", and of "rbd".
      dimensions: d, of each network in a subspace.
      rbd_dimensions: d of random bases descent.
      ranks: of truncated SVDs.
    """
    return ml_collections.ConfigDict(
        {
            "dataset": "digits",
            "data_dir": "",
            "network": "fc",
            "epochs": 10,
            "batch_size": 64,
            "seed": 0,
            "learning_rates": {"sgd": 0.5, "subspace": 0.03, "rbd": 1.0},
            "dimensions": (100, 300, 1000, 3000),
            "rbd_dimensions": 250,
            "ranks": (1, 2, 4, 8, 16, 32),
        }
    )


def run(config: ml_collections.ConfigDict, workdir: Path) -> Dict[str, Any]:
    """Trains all networks; writes `results.json`, `accuracy.png` and `effective_ranks.png`.

    Returns:
      What `results.json` has: accuracies on the test examples and bytes of each file; effective ranks after
      each epoch.
    """
    start = time.perf_counter()
    data = datasets.load(config.dataset, config.data_dir or None)
    parameters = _network(config, data).count_params()
    for d in (*config.dimensions, config.rbd_dimensions):
        arguments.integer("config.dimensions", d, 1, parameters)
    workdir.mkdir(parents=True, exist_ok=True)
    test = datasets.evaluation_batches(data.test, 1000)
    sgd = _trained(config, data, keras.optimizers.SGD(_falling(config, data, "sgd")))
    descent = rb.RandomBasesDescent(
        keras.optimizers.SGD(_falling(config, data, "rbd")),
        config.rbd_dimensions,
        basis="hadamard",
        seed=config.seed,
    )
    rbd = _trained(config, data, descent)
    content = {
        "config": config.to_dict(),
        "parameters": sgd["model"].count_params(),
        "sgd_accuracy": _accuracy(sgd["model"], test),
        "rbd_accuracy": _accuracy(rbd["model"], test),
        "truncated_svd": _truncations(config, sgd["model"], test, None),
        "truncated_change": _truncations(config, sgd["model"], test, sgd["start"]),
        "subspace": [
            point for d in config.dimensions for point in _in_subspace(config, data, d, test, workdir)
        ],
        "effective_ranks": {"sgd": sgd["ranks"], "rbd": rbd["ranks"]},
        "seconds": round(time.perf_counter() - start),
    }
    results.write_json(workdir / "results.json", content)
    panels.draw([_accuracies(content)], workdir / "accuracy.png")
    panels.draw(_ranks(content), workdir / "effective_ranks.png")
    return content


def _falling(config: ml_collections.ConfigDict, data: datasets.ImageDataset, name: str):
    steps = config.epochs * datasets.steps_per_epoch(data.train, config.batch_size)
    return keras.optimizers.schedules.PolynomialDecay(config.learning_rates[name], steps, 0.0)


def _network(config: ml_collections.ConfigDict, data: datasets.ImageDataset) -> keras.Model:
    set_random_seed(config.seed)
    return networks.get(config.network, data.input_shape, data.num_classes)


def _trained(config: ml_collections.ConfigDict, data: datasets.ImageDataset, optimizer) -> Dict[str, Any]:
    """A network, its initial weights, and its kernels' effective ranks: before training, after each epoch."""
    model = _network(config, data)
    start = [variable.numpy() for variable in model.trainable_variables]
    before = rb.analysis.effective_rank.effective_ranks(model)
    history = _fit(config, data, model, optimizer, [rb.callbacks.EffectiveRanks()])
    shapes = {path_of(variable): tuple(variable.shape) for variable in model.trainable_variables}
    # Not by paths, which Keras numbers by all that the process has built.
    ranks = {
        f"kernel {number}, {' x '.join(map(str, shapes[path]))}": [rank, *history[f"effective_rank/{path}"]]
        for number, (path, rank) in enumerate(before.items(), 1)
    }
    return {"model": model, "ranks": ranks, "start": start}


def _fit(
    config: ml_collections.ConfigDict, data, model: keras.Model, optimizer, callbacks
) -> Dict[str, List]:
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    steps = datasets.steps_per_epoch(data.train, config.batch_size)
    batches = datasets.training_batches(
        data.train, config.batch_size, config.seed, num_steps=config.epochs * steps, augment=False
    )
    return model.fit(
        batches, epochs=config.epochs, steps_per_epoch=steps, verbose=0, callbacks=callbacks
    ).history


def _truncations(
    config: ml_collections.ConfigDict, model: keras.Model, test, start: Optional[List[np.ndarray]]
) -> List[Dict[str, Any]]:
    small = clone_model(model)
    small.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    points = []
    for rank in config.ranks:
        for bits in truncated_svd.BITS:
            cut = truncated_svd.truncated(model, rank, bits, start)
            for variable, weight in zip(small.trainable_variables, cut.weights):
                variable.assign(weight)
            accuracy = _accuracy(small, test)
            points.append({"rank": rank, "bits": bits, "bytes": cut.bytes, "accuracy": accuracy})
    return points


def _in_subspace(
    config: ml_collections.ConfigDict, data: datasets.ImageDataset, dimensions: int, test, workdir: Path
) -> List[Dict[str, Any]]:
    sub = rb.SubspaceModel(_network(config, data), dimensions, basis="hadamard", seed=config.seed)
    _fit(config, data, sub, keras.optimizers.Adam(_falling(config, data, "subspace")), [])
    path = workdir / "network.rb"
    points = []
    for bits in sorted(BITS):
        size = sub.export_compressed(str(path), bits)
        loaded = rb.load_compressed(str(path), _network(config, data))
        loaded.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        points.append(
            {"dimensions": dimensions, "bits": bits, "bytes": size, "accuracy": _accuracy(loaded, test)}
        )
    path.unlink()
    return points


def _accuracy(model: keras.Model, test) -> float:
    return float(model.evaluate(test, verbose=0)[1])


def _accuracies(content: Dict[str, Any]) -> Dict[str, Any]:
    """Accuracy against bytes: a line for each kind of file and number of bits."""
    lines = []
    labels = {
        "subspace": "vector",
        "truncated_change": "SVD of change",
        "truncated_svd": "SVD",
    }
    for name, label in labels.items():
        # As float32 numbers, SVDs take twice what they do in float16, and are no better.
        points = [point for point in content[name] if name == "subspace" or point["bits"] < 32]
        for bits in sorted({point["bits"] for point in points}):
            some = [point for point in points if point["bits"] == bits]
            line = panels.line(
                f"{label}, {bits} bits",
                [float(f"{point['bytes'] / 1000:.2g}") for point in some],
                [100 * point["accuracy"] for point in some],
                style="line" if name == "subspace" else "dashed",
            )
            lines.append(line)
    title = f"{content['config']['network']}, {content['config']['dataset']}: D = {content['parameters']:,}"
    return panels.panel(title, "kB of the file", "test accuracy (%)", lines, xscale="log")


def _ranks(content: Dict[str, Any]) -> List[Dict[str, Any]]:
    """A panel for each kernel: its effective rank against epochs."""
    found = content["effective_ranks"]
    labels = {"sgd": "SGD", "rbd": f"RBD, d = {content['config']['rbd_dimensions']:,}"}
    return [
        panels.panel(
            kernel,
            "epoch",
            "effective rank",
            [
                panels.line(labels[name], range(len(ranks[kernel])), ranks[kernel])
                for name, ranks in found.items()
            ],
        )
        for kernel in found["sgd"]
    ]
