"""Training loops of users' own on the double, as Graphcore's documentation has them: queues and loops."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import keras
from tests.poplar.double import installed

X = np.random.default_rng(0).normal(size=[64, 4]).astype(np.float32)
Y = X[:, :2]


@pytest.fixture
def ipu():
    with installed():
        from tensorflow.python import ipu

        yield ipu


def _data():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8, drop_remainder=True).repeat()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_loop_with_a_tape_and_an_outfeed_trains_with_our_optimizer(ipu, replicas):
    strategy = rb.strategies.get("ipu", replicas=replicas)

    @tf.function(jit_compile=True)
    def loop(steps, iterator, outfeed, model, optimizer):
        for _ in tf.range(steps):
            x, y = next(iterator)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            outfeed.enqueue({"loss": loss})

    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(2)])  # built when it is first called
        optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(0.5), dimensions=6, seed=0)
        iterator, outfeed = iter(_data()), ipu.ipu_outfeed_queue.IPUOutfeedQueue()
        for _ in range(2):
            strategy.run(loop, args=(10, iterator, outfeed, model, optimizer))
    losses = outfeed.dequeue()["loss"].numpy()
    assert losses.shape == ((20,) if replicas == 1 else (20, replicas))
    assert losses[-4:].mean() < 0.5 * losses[:4].mean()
    assert int(optimizer.iterations) == 20
    first, *others = strategy.double.values(model.trainable_variables[0])
    assert all(np.array_equal(first, other) for other in others)


def test_outfeeds_are_iterated_and_keep_the_last(ipu):
    strategy = rb.strategies.get("ipu")
    modes = ipu.ipu_outfeed_queue.IPUOutfeedMode
    queues = [ipu.ipu_outfeed_queue.IPUOutfeedQueue(mode) for mode in (modes.ALL, modes.LAST)]

    @tf.function
    def program():
        for i in tf.range(3):
            for queue in queues:
                queue.enqueue(i)

    assert not queues[0].enqueued
    strategy.run(program)
    assert [int(element) for element in queues[0]] == [0, 1, 2]
    assert int(queues[1].dequeue()) == 2
    with pytest.raises(ValueError, match="must be an IPUOutfeedMode"):
        ipu.ipu_outfeed_queue.IPUOutfeedQueue("all")


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_repeated_body_is_fed(ipu, replicas):
    strategy = rb.strategies.get("ipu", replicas=replicas)
    queue = ipu.ipu_infeed_queue.IPUInfeedQueue(tf.data.Dataset.range(8).map(lambda i: tf.cast(i, tf.int32)))

    @tf.function
    def program(total):
        with ipu.scopes.ipu_shard(0):
            return ipu.loops.repeat(3, lambda total, element: total + element, [total], queue)

    assert int(strategy.run(program, (tf.constant(0),))) == (3 if replicas == 1 else 6)  # 0, 1, 2 or 0, 2, 4
    with pytest.raises(RuntimeError, match="loops.repeat"):
        queue.get_next()


def test_keras_ipu_is_a_part_of_keras_while_the_double_is_there(ipu):
    from tensorflow.keras import ipu as by_name

    assert keras.ipu is by_name
    assert by_name.ReplicatedMetricReductionMethod.MEAN.name == "MEAN"
    with pytest.raises(RuntimeError, match="scope of an IPUStrategy"):
        with by_name.PipelineStage(0):
            pass
    with pytest.raises(ImportError):
        from tensorflow.python.ipu.keras import Sequential  # noqa: F401  # gone since SDK 3.1


def test_keras_ipu_is_gone_afterwards():
    with installed():
        pass
    assert not hasattr(keras, "ipu")


def test_a_sequential_model_in_a_list_of_stages_trains(ipu):
    strategy = rb.strategies.get("ipu", ipus_per_replica=2)
    with strategy.scope():
        model = keras.Sequential(
            [keras.layers.Dense(4, "tanh"), keras.layers.Dense(3), keras.layers.Dense(2)]
        )
        model.set_pipelining_options(gradient_accumulation_steps_per_replica=4)
        model.set_pipeline_stage_assignment([0, 1, 1])
        model.compile(keras.optimizers.SGD(0.05), "mse", steps_per_execution=8)
    losses = model.fit(_data(), steps_per_epoch=8, epochs=3).history["loss"]
    assert losses[-1] < losses[0]
    assert strategy.double.count == 1
