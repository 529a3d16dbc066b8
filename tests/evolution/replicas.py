"""Run by test_workers.py: one process, one MirroredStrategy of some virtual CPUs; prints JSON.

python -m tests.evolution.replicas K CASES, where CASES is JSON: {name: arguments of `case`}.
"""

import tempfile

import numpy as np
import tensorflow as tf

import random_bases as rb
from random_bases import keras_api
from random_bases.keras_api import keras
from tests.optimizers.helpers import data, dense_model, flat, values
from tests.optimizers.replicas import collectives, main, per_replica

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.02, momentum=0.5),
    "adam": lambda: keras.optimizers.Adam(0.02),
    "rbd": lambda: rb.RandomBasesDescent("sgd", dimensions=4),
}


def trained_in(
    strategy,
    optimizer="sgd",
    metrics=(),
    objective=False,
    loss="sum_over_batch_size",
    inside=True,
    **arguments,
):
    """Evolution of a compiled model, all made in the scope of a `tf.distribute` strategy."""
    made = None if inside else OPTIMIZERS[optimizer]()
    with strategy.scope():
        model = dense_model()
        loss = keras.losses.MeanSquaredError(reduction=loss)
        keras_api.compile_model(model, jit_compile=False, loss=loss, metrics=list(metrics))
        arguments = {"population": 8, "sigma": 0.1, "fitness": "raw", "seed": 3, **arguments}
        if objective:
            arguments["objective"] = lambda model: 0.0
        return rb.NaturalEvolutionStrategies(model, optimizer=made or OPTIMIZERS[optimizer](), **arguments)


def fit(nes, kind, epochs=2, first=0, callbacks=()):
    """Epochs of two updates, on arrays or a dataset; returns the history."""
    x, y = data(examples=64)
    options = {"epochs": epochs, "initial_epoch": first, "steps_per_epoch": 2, "verbose": 0}
    options["callbacks"] = list(callbacks)
    if kind == "arrays":
        return nes.fit(x, y, batch_size=4, **options).history
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    if kind == "shuffled":
        rows = rows.shuffle(64, seed=0)
    batches = rows.batch(4, drop_remainder=True)
    batches = batches.repeat().skip(int(keras_api.updates_of(nes.optimizer)) * nes.batches_per_update)
    return nes.fit(batches, **options).history


def weights(nes):
    return flat(values(nes.model.trainable_variables))


def case(strategy, kind="arrays", stopped=False, **arguments):
    nes, alone = trained_in(strategy, **arguments), trained_in(tf.distribute.get_strategy(), **arguments)
    history = {}
    shapes = collectives(lambda: history.update(fit(nes, kind)))
    expected = fit(alone, kind)
    replicas = [flat([v.numpy() for v in vs]) for vs in zip(*map(per_replica, nes.model.trainable_variables))]
    again, replayed = resumed(strategy, kind, arguments) if stopped else (None, None)
    return {
        "difference": float(np.abs(weights(nes) - weights(alone)).max()),
        "moved": float(np.abs(weights(alone) - flat(values(dense_model().trainable_variables))).max()),
        "replicas_equal": all(np.array_equal(replica, replicas[0]) for replica in replicas),
        "replicas": len(replicas),
        "shapes": shapes,
        "bytes": nes.bytes_per_update,
        "history": history,
        "history_alone": expected,
        "resumed": stopped and bool(np.array_equal(again, weights(nes))),
        "replayed": stopped and bool(np.array_equal(replayed, weights(nes))),
    }


def resumed(strategy, kind, arguments):
    """The weights of a run that was stopped after an epoch and gone on with, and those of its log."""
    directory = tempfile.mkdtemp()
    first = trained_in(strategy, **arguments)
    fit(first, kind, epochs=1, callbacks=[rb.ReplayLog(directory + "/log")])
    path = tf.train.Checkpoint(model=first.model, optimizer=first.optimizer).save(directory + "/run")
    second = trained_in(strategy, **arguments)
    tf.train.Checkpoint(model=second.model, optimizer=second.optimizer).restore(path).assert_consumed()
    fit(second, kind, first=1, callbacks=[rb.ReplayLog(directory + "/log")])
    replayed = rb.replay(directory + "/log", dense_model())
    return weights(second), flat(values(replayed.trainable_variables))


if __name__ == "__main__":
    main(case)
