"""Evolution on the IPU's replicas, which `tf.distribute` does not see, as the double has them."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import keras_api
from random_bases.batches import stream
from random_bases.evolution import natural_evolution_strategies, workers
from random_bases.keras_api import keras, set_random_seed
from tests.poplar.double import Pod, installed


def on_ipus(replicas, minibatch, pod=False, basis="normal"):
    """The weights after two updates, the mean losses, and the bytes sent."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=[64, 4]).astype(np.float32), rng.normal(size=[64, 2]).astype(np.float32)
    with installed(pod=Pod(replicas) if pod else None):
        strategy = rb.strategies.get("ipu_pod") if pod else rb.strategies.get("ipu", replicas=replicas)
        set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
            model.compile(loss="mse")
            nes = rb.NaturalEvolutionStrategies(
                model,
                4,
                sigma=0.1,
                learning_rate=0.1,
                minibatch=minibatch,
                fitness="raw",
                basis=basis,
                seed=0,
            )
        before = model.get_weights()
        history = nes.fit(x, y, batch_size=4, steps_per_epoch=2, verbose=0).history
        for variable in model.trainable_variables:
            first, *others = strategy.double.values(variable)
            assert all(np.array_equal(first, other) for other in others)
        weights = model.get_weights()
        assert max(np.abs(a - b).max() for a, b in zip(weights, before)) > 0.01
        return weights, history["loss"], nes.bytes_per_update


@pytest.mark.parametrize(
    ("minibatch", "options"),
    [
        ("independent", {}),
        ("shared", {}),
        ("independent", {"basis": "low_rank"}),
        pytest.param("independent", {"pod": True}, marks=pytest.mark.slow),
    ],
    ids=["independent", "shared", "low rank", "under poprun"],
)
def test_the_replicas_of_ipus_make_the_update_of_one(minibatch, options):
    basis = options.get("basis", "normal")
    alone, loss, sent = on_ipus(1, minibatch, basis=basis)
    assert sent == 0
    weights, losses, sent = on_ipus(2, minibatch, **options)
    for a, b in zip(weights, alone):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert losses == pytest.approx(loss, rel=1e-5)
    assert sent == 4 * 2


def dealt(pod, shared, rounds=3):
    """replica's number -> the first numbers of its batches, in an instance of a POD."""
    x = np.arange(64, dtype=np.float32)
    with installed(pod=pod):
        strategy = rb.strategies.get("ipu_pod")
        batches = workers.iterator(strategy, stream(x, None, None, 2, False, 0), 1, shared, None)

        def program(iterator):
            return rb.ipu.replication_index(), tf.stack([next(iterator)[0][0] for _ in range(rounds)])

        found = strategy.run_replicas(
            tf.function(program, autograph=False), [((batches,), {})] * strategy.double.count
        )
        return {int(index): values.numpy().tolist() for index, values in found}


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "shared"])
@pytest.mark.parametrize(("replicas", "instances"), [(4, 1), (4, 2), (3, 3), (6, 2)])
def test_each_replica_of_a_pod_has_the_batches_of_its_own_directions(replicas, instances, shared):
    found = {}
    for index in range(instances):
        found.update(dealt(Pod(replicas, instances, index), shared))
    assert sorted(found) == list(range(replicas))
    for replica, values in found.items():
        places = range(3) if shared else range(replica, 3 * replicas, replicas)
        assert values == [2.0 * (1 + place) for place in places]


def own_losses(pod):
    """The sums of the losses of each replica's own offspring, in an instance of a POD."""

    def only_own(own, replicas):
        found = replicas.index + replicas.count * tf.range(own.shape[0])
        return tf.scatter_nd(found[:, tf.newaxis], own, [12, own.shape[1]])

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=[64, 4]).astype(np.float32), rng.normal(size=[64, 2]).astype(np.float32)
    with installed(pod=pod), mock.patch.object(natural_evolution_strategies, "losses_of_all", only_own):
        strategy = rb.strategies.get("ipu_pod")
        set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
            model.compile(loss="mse")
            nes = rb.NaturalEvolutionStrategies(model, 12, sigma=0.5, learning_rate=0.1, seed=0)
        nes._build_once()
        batches = workers.iterator(strategy, stream(x, y, None, 4, True, 0), 0, False, nes._group)
        update = tf.function(nes._update, autograph=False)
        with keras_api.without_reduction(nes.optimizer):  # as in `fit`
            means = strategy.run_replicas(update, [((batches,), {})] * strategy.double.count)
        return [12 * float(mean) for mean in means]


@pytest.mark.parametrize(("replicas", "instances"), [(4, 2), (3, 3)])
def test_the_instances_of_a_pod_share_the_offspring_of_one_process_out(replicas, instances):
    found = [own_losses(Pod(replicas, instances, index)) for index in range(instances)]
    together = own_losses(Pod(replicas))
    np.testing.assert_allclose(np.concatenate(found), together, rtol=1e-5)
    (alone,) = own_losses(Pod(1))
    assert sum(together) == pytest.approx(alone, rel=1e-5)
    assert len({round(loss, 3) for loss in together}) == replicas


def test_a_pod_of_several_instances_refuses_what_they_cannot_share():
    with installed(pod=Pod(4, instances=2, index=1)), rb.strategies.get("ipu_pod").scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(loss="mse")
        with pytest.raises(ValueError, match="population=6 must be 4 replicas times as many each"):
            rb.NaturalEvolutionStrategies(model, 6, sigma=0.1, learning_rate=0.1, seed=0)
        with pytest.raises(ValueError, match="seed=None would be another one in each of 2 processes"):
            rb.NaturalEvolutionStrategies(model, 8, sigma=0.1, learning_rate=0.1)
