"""Run by test_exchange.py: one process, one MirroredStrategy of some virtual CPUs; prints JSON.

python -m tests.optimizers.replicas K CASES, where CASES is JSON: {name: arguments of `case`}.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

import random_bases as rb
from random_bases import keras_api
from random_bases.keras_api import GENERATION, keras
from tests.optimizers.helpers import data, dense_model, flat, matrix, values


def virtual_cpus(number):
    device = tf.config.list_physical_devices("CPU")[0]
    configuration = [tf.config.LogicalDeviceConfiguration() for _ in range(number)]
    tf.config.set_logical_device_configuration(device, configuration)
    return [f"CPU:{i}" for i in range(number)]


def worker_gradient(model, x, y):
    """The gradient of the mean loss of one worker's part of the batch, flat."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x) - y))
    return flat(tape.gradient(loss, model.trainable_variables))


def parts(array, k):
    """What `tf.distribute` gives each of k workers of a batch: equal parts, rounded up, while it lasts."""
    size = -(-len(array) // k)
    return [array[worker * size : (worker + 1) * size] for worker in range(k)]


def expected(model, optimizer, k, xs, ys):
    """The issue's formulas with dense matrices, in float64: the inner optimizer is SGD(0.5)."""
    rule = optimizer.rule
    theta = flat(values(model.trainable_variables))
    d = rule.dimensions
    memories = [np.zeros(theta.size)] * k
    for t, (x, y) in enumerate(zip(xs, ys)):
        gradients = [
            worker_gradient(model, *part) if len(part[0]) else np.zeros(theta.size)
            for part in zip(parts(x, k), parts(y, k))
        ]
        if rule.error_feedback:
            update, memories = with_memory(rule, t, k, memories, gradients)
        elif rule.replicas == "shared":
            p = matrix(rule, t)
            update = p @ (p.T @ np.mean(gradients, axis=0))
        elif rule.replicas == "independent":
            ps = [matrix(rule, t, first=worker * d) for worker in range(k)]
            update = np.mean([p @ (p.T @ g) for p, g in zip(ps, gradients)], axis=0)
        else:
            ps = split(rule, t, k)
            assert sum(p.shape[1] for p in ps) == d
            update = sum(p @ (p.T @ g) for p, g in zip(ps, gradients))
        theta = theta - 0.5 * update
        at = 0
        for variable in model.trainable_variables:
            size = int(np.prod(variable.shape))
            variable.assign(theta[at : at + size].reshape(variable.shape))
            at += size
    return theta


def split(rule, t, k):
    """The directions of each replica; uneven shares: the first d mod K replicas have one more."""
    shares = [rule.dimensions // k + (replica < rule.dimensions % k) for replica in range(k)]
    firsts = np.cumsum([0, *shares[:-1]])
    return [matrix(rule, t, first=first)[:, :share] for first, share in zip(firsts, shares)]


def with_memory(rule, t, k, memories, gradients):
    """Error feedback: each replica takes what its own coordinates have moved from a memory of its own."""
    t = t if rule.redraw_every else 0
    if rule.replicas == "shared":
        ps = [matrix(rule, t)] * k
    elif rule.replicas == "independent":
        ps = [matrix(rule, t, first=replica * rule.dimensions) for replica in range(k)]
    else:
        ps = split(rule, t, k)
    leak = float(rule.error_feedback)
    held = [leak * memory + gradient for memory, gradient in zip(memories, gradients)]
    own = [p.T @ e for p, e in zip(ps, held)]
    if rule.keep_fraction < 1:
        left = rule.dimensions - round(rule.keep_fraction * rule.dimensions)
        for c in own:
            c[np.argsort(np.abs(c))[:left]] = 0
    moved = [p @ c for p, c in zip(ps, own)]
    return np.mean(moved, axis=0), [e - m for e, m in zip(held, moved)]


def collectives(function):
    """The shapes of what all-reduces and all-gathers are handed while `function` is traced."""
    shapes = []
    context = tf.distribute.ReplicaContext
    originals = {name: getattr(context, name) for name in ("all_reduce", "all_gather")}

    def spy(name):
        def call(self, op, *arguments, **keywords):
            value = arguments[0] if name == "all_reduce" else op
            shapes.extend(list(tensor.shape) for tensor in tf.nest.flatten(value))
            return originals[name](self, op, *arguments, **keywords)

        return call

    for name in originals:
        setattr(context, name, spy(name))
    try:
        function()
    finally:
        for name, original in originals.items():
            setattr(context, name, original)
    return shapes


def case(strategy, examples=24, mixed=False, logged=False, resumed=(), **arguments):
    k = strategy.num_replicas_in_sync
    x, y = data(examples=examples)
    arguments = {"dimensions": 10, "basis": "rademacher", "seed": 3, **arguments}
    with strategy.scope():
        model = dense_model()
        optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(0.5), **arguments)
        compiled = keras.mixed_precision.LossScaleOptimizer(optimizer) if mixed else optimizer
        options = {} if GENERATION == "keras2.6" else {"jit_compile": False}
        model.compile(compiled, loss=keras.losses.MeanSquaredError(), **options)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    log = Path(tempfile.mkdtemp()) / "log"
    callbacks = [rb.ReplayLog(log)] if logged else []
    shapes = collectives(lambda: model.fit(dataset, epochs=1, verbose=0, callbacks=callbacks))
    reached = flat(values(model.trainable_variables))
    replicas = [flat([v.numpy() for v in vs]) for vs in zip(*map(per_replica, model.trainable_variables))]
    alone = dense_model()
    batches = np.arange(8, examples, 8)
    wanted = expected(alone, optimizer, k, np.split(x, batches), np.split(y, batches))
    return {
        "error": float(np.abs(reached - wanted).max()),
        "moved": float(np.abs(wanted - flat(values(dense_model().trainable_variables))).max()),
        "replicas_equal": all(np.array_equal(replica, replicas[0]) for replica in replicas),
        "replicas": len(replicas),
        "shapes": shapes,
        "bytes": optimizer.bytes_per_step,
        "replayed": logged and replays(log, reached),
        "parted": parted(strategy, model, optimizer, arguments, dataset, resumed) if resumed else None,
    }


def parted(strategy, model, optimizer, arguments, dataset, resumed):
    """What came out of another epoch, gone on with and restored from a checkpoint, as `resumed` says.

    "all": by all replicas; "one": by one, which goes on with the whole batches; "again": by all from what
    that one saved at once. Of each how far its weights are apart, and the warnings.
    """
    paths = [tf.train.Checkpoint(model=model, optimizer=optimizer).save(tempfile.mkdtemp() + "/first")]
    found = {}
    for name in resumed:
        where = tf.distribute.get_strategy() if name == "one" else strategy
        found[name] = restored_in(where, arguments, paths[-1 if name == "again" else 0])
        if name == "one":
            one = found[name][0]
            paths.append(tf.train.Checkpoint(model=one, optimizer=one.optimizer).save(paths[0] + "-one"))
    for each in (model, *(restored for restored, _ in found.values())):
        each.fit(dataset, epochs=1, verbose=0)
    wanted = flat(values(model.trainable_variables))
    return {
        name: {"by": float(np.abs(flat(values(each.trainable_variables)) - wanted).max()), "told": told}
        for name, (each, told) in found.items()
    }


def restored_in(strategy, arguments, path):
    """A compiled model that is restored from a checkpoint, and the warnings that this gave."""
    with strategy.scope():
        model, optimizer = dense_model(), rb.RandomBasesDescent(keras.optimizers.SGD(0.5), **arguments)
        loss = keras.losses.MeanSquaredError()
        keras_api.compile_model(model, jit_compile=False, optimizer=optimizer, loss=loss)
        keras_api.build_optimizer(optimizer, model.trainable_variables)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        status = tf.train.Checkpoint(model=model, optimizer=optimizer).restore(path)
    status.assert_existing_objects_matched()
    return model, [str(each.message) for each in caught if "error feedback" in str(each.message)]


def replays(log, reached):
    """Whether one process makes the replicas' weights of their log, bit for bit."""
    model = dense_model()
    rb.replay(log, model)
    return bool(np.array_equal(flat(values(model.trainable_variables)), reached))


def per_replica(variable):
    value = getattr(variable, "_value", variable)
    return value.values if hasattr(value, "values") else [value]


def main(case):
    """Prints what `case(strategy, **arguments)` gives for each of the command line's cases, or raises."""
    k = int(sys.argv[1])
    strategy = tf.distribute.MirroredStrategy(virtual_cpus(k))
    results = {}
    for name, arguments in json.loads(sys.argv[2]).items():
        try:
            results[name] = case(strategy, **arguments)
        except (ValueError, RuntimeError) as error:
            results[name] = {"raised": f"{type(error).__name__}: {error}"}
    print("RESULTS " + json.dumps(results))


if __name__ == "__main__":
    main(case)
