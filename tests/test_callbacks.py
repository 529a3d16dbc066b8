import numpy as np
import pytest

from random_bases import RandomBasesDescent
from random_bases.callbacks import SwitchToInner
from random_bases.keras_api import GENERATION, compile_model, keras
from tests import networks


def train(epochs, switch, momentum=0.0, optimizer=None, first=0, model=None):
    """Fits `sequential`, three steps an epoch; returns the model."""
    if model is None:
        model, _ = networks.build("sequential")
        inner = keras.optimizers.SGD(0.5, momentum=momentum)
        optimizer = optimizer or RandomBasesDescent(inner, dimensions=9, seed=1)
        compile_model(model, jit_compile=False, optimizer=optimizer, loss="mse")
    _, x = networks.build("sequential")
    callbacks = [] if switch is None else [SwitchToInner(*switch)]
    arguments = {"batch_size": 2, "shuffle": False, "verbose": 0}
    model.fit(x, networks.targets(), epochs=epochs, initial_epoch=first, callbacks=callbacks, **arguments)
    return model


def assert_equal_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights()):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_switched_training_is_two_trainings():
    switched = train(4, (2, 0.05))
    half = train(2, None)
    compile_model(half, jit_compile=False, optimizer=keras.optimizers.SGD(0.05), loss="mse")
    assert_equal_weights(switched, train(4, None, first=2, model=half))
    assert type(switched.optimizer) is keras.optimizers.SGD
    # And neither of the two trainings is the whole.
    assert np.abs(switched.get_weights()[0] - train(4, None).get_weights()[0]).max() > 1e-3


def test_from_the_first_epoch_it_is_the_inner_optimizer():
    plain = train(2, None, optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
    assert_equal_weights(train(2, (0, 0.05), momentum=0.9), plain)


def test_momentum_and_updates_go_on():
    switched = train(2, (1, 0.05), momentum=0.9)
    assert int(switched.optimizer.iterations) == 6
    # Without its momentum the inner optimizer would go elsewhere.
    half = train(1, None, momentum=0.9)
    fresh = keras.optimizers.SGD(0.05, momentum=0.9)
    compile_model(half, jit_compile=False, optimizer=fresh, loss="mse")
    assert (
        np.abs(train(2, None, first=1, model=half).get_weights()[0] - switched.get_weights()[0]).max() > 1e-4
    )


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no .keras files")
def test_the_model_is_saved_with_the_inner_optimizer(tmp_path):
    switched = train(2, (1, 0.05), momentum=0.9)
    switched.save(tmp_path / "switched.keras")
    loaded = keras.models.load_model(tmp_path / "switched.keras")
    assert type(loaded.optimizer) is keras.optimizers.SGD
    assert int(loaded.optimizer.iterations) == 6
    assert_equal_weights(train(3, None, first=2, model=loaded), train(3, None, first=2, model=switched))


def test_a_fit_resumed_after_the_switch_does_not_project():
    resumed = train(3, (2, 0.05), first=2, model=train(2, None))
    assert_equal_weights(resumed, train(3, (2, 0.05)))


def test_what_is_refused():
    with pytest.raises(ValueError, match="epoch=-1"):
        SwitchToInner(-1, 0.1)
    with pytest.raises(ValueError, match="learning_rate=0"):
        SwitchToInner(1, 0)
    for rate in (True, float("inf"), "a"):
        with pytest.raises((TypeError, ValueError), match=f"learning_rate={rate!r} must be"):
            SwitchToInner(1, rate)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    scheduled = RandomBasesDescent(keras.optimizers.SGD(schedule), dimensions=9)
    with pytest.raises(ValueError, match="which is a LearningRateSchedule"):
        train(1, (0, 0.1), optimizer=scheduled)
    with pytest.raises(TypeError, match="needs a model whose optimizer is a RandomBasesDescent, not a SGD"):
        train(1, (0, 0.1), optimizer=keras.optimizers.SGD())
