"""A loss that grows in the first steps is warned of, with what to lower; one that falls is not."""

import warnings

import numpy as np
import pytest

import random_bases as rb
from random_bases.first_steps import WarnOfGrowth
from random_bases.keras_api import keras, set_random_seed

X = np.random.RandomState(0).normal(size=(40, 5)).astype(np.float32)
Y = (X @ np.ones([5, 1])).astype(np.float32)


def model():
    set_random_seed(0)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])


def quiet(train):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train()


def test_subspace_models_warn_of_growth_and_call_other_callbacks():
    sub = rb.SubspaceModel(model(), dimensions=3, basis="rademacher", seed=0)
    sub.compile(keras.optimizers.SGD(0.01), keras.losses.MeanSquaredError(), run_eagerly=True)
    epochs = []
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    quiet(lambda: sub.fit(X, Y, batch_size=4, verbose=0, callbacks=[seen]))
    sub.optimizer.learning_rate = 50.0
    with pytest.warns(
        UserWarning, match=r"has grown from \d.* first \d+ steps: lower the optimizer's learning"
    ):
        sub.fit(X, Y, batch_size=4, verbose=0, callbacks=seen)
    assert epochs == [0, 0]


def test_evolution_warns_of_growth():
    made = model()
    made.compile(loss=keras.losses.MeanSquaredError())
    nes = rb.NaturalEvolutionStrategies(
        made,
        *(4, 0.01),
        learning_rate=0.01,
        antithetic=True,
        fitness="raw",
        memory_limit=0,
        jit_compile=False,
        seed=0,
    )
    quiet(lambda: nes.fit(X, Y, batch_size=4, steps_per_epoch=10, verbose=0))
    made.optimizer.learning_rate = 50.0
    with pytest.warns(
        UserWarning, match=r"has grown from \d.* first \d+ steps: lower learning_rate, or raise"
    ):
        nes.fit(X, Y, batch_size=4, steps_per_epoch=10, verbose=0)


def logged(losses, epoch_ends=()):
    """What is said of losses, as Keras gives them."""
    watch = WarnOfGrowth("do less")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch.on_train_begin()
        for batch, loss in enumerate(losses):
            watch.on_train_batch_end(batch, {"loss": loss})
            if batch in epoch_ends:
                watch.on_epoch_end(0)
    return [str(warning.message) for warning in caught]


def test_when_it_speaks():
    assert logged([1.0, 1.9, 2.0]) == []
    grown = logged([1.0, 9.0, 1.0, 9.0, 2.1, 9.0])
    assert grown == ["The loss has grown from 1 to 2.1 in the first 5 steps: do less."]
    assert len(logged([1.0, np.nan])) == 1
    assert len(logged([np.inf])) == 1
    assert logged([-1.0, -0.1, 3.0, 3.0, 3.0]) == []  # has no scale
    assert logged([1.0] * 50 + [9.0]) == []
    assert logged([1.0, 1.0, 9.0, 9.0, 9.0, 9.0], epoch_ends=[1]) == []
