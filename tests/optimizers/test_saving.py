"""What is saved and loaded goes on as if nothing had happened, bit for bit."""

import json

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import bases
from random_bases.keras_api import GENERATION, KERAS_VERSION, build_optimizer, keras
from tests.optimizers.helpers import (
    assert_differ,
    assert_equal,
    compile_,
    data,
    dense_model,
    fit,
    needs_keras,
    stepped,
    trained,
    values,
)

SGD = keras.optimizers.SGD
Adam = keras.optimizers.Adam
RBD = rb.RandomBasesDescent

has_keras_files = needs_keras((2, 11), ".keras files")
needs_keras_2 = pytest.mark.skipif(KERAS_VERSION >= (3, 0), reason="Keras 3 does not save SavedModels")
needs_keras_3 = needs_keras((3, 0), "optimizer state in weight files")
not_in_keras_3 = pytest.mark.skipif(KERAS_VERSION >= (3, 0), reason="Keras 3 restores no optimizer from .h5")
FORMATS = [pytest.param(".keras", marks=has_keras_files), pytest.param(".h5", marks=not_in_keras_3)]


def redrawn(inner=None, **arguments):
    """Redrawn every third step: after an epoch of four, the next draw comes after two steps more."""
    arguments = {"dimensions": 5, "basis": "rademacher", "redraw_every": 3, "seed": 3, **arguments}
    return RBD(Adam(0.1) if inner is None else inner, **arguments)


def remembering():
    return redrawn(basis="hadamard", error_feedback=0.9)


def scheduled():
    return SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5), momentum=0.9)


def averaged():
    return SGD(0.3, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3)


def saved_and_loaded(model, path, mode="eager"):
    model.save(path)
    model = keras.models.load_model(path)
    model.run_eagerly = mode == "eager"  # .h5 files do not know
    return model


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("optimizer", "mode"),
    [
        pytest.param(redrawn, "eager", id="adam"),
        pytest.param(redrawn, "graph", id="adam in a graph"),
        pytest.param(lambda: redrawn(scheduled()), "eager", id="schedule"),
        pytest.param(lambda: redrawn(averaged()), "eager", id="ema", marks=needs_keras((2, 11), "use_ema")),
        pytest.param(
            lambda: redrawn(basis=bases.get("rademacher", 64, 5), compartments=[40, 24]),
            "eager",
            id="basis object and sizes",
        ),
    ],
)
def test_a_saved_model_goes_on(tmp_path, optimizer, mode, suffix):
    # EMA weights replace the model's at the end of a fit: so compare with two fits, not one of two epochs.
    expected = trained(optimizer(), mode, epochs=1)
    fit(expected, epochs=1)
    model = saved_and_loaded(trained(optimizer(), mode, epochs=1), str(tmp_path / f"model{suffix}"), mode)
    assert type(model.optimizer) is RBD
    assert model.optimizer.rule.get_config() == expected.optimizer.rule.get_config()
    assert int(model.optimizer.iterations) == 4
    fit(model, epochs=1)
    assert_equal(model, expected)
    assert int(model.optimizer.iterations) == 8


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_saved_model_in_mixed_precision_goes_on(tmp_path, suffix):
    if GENERATION == "tf_keras" and suffix == ".h5":
        pytest.skip("tf-keras restores no LossScaleOptimizer from .h5")
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        expected = trained(redrawn(), epochs=2)
        model = saved_and_loaded(trained(redrawn(), epochs=1), str(tmp_path / f"model{suffix}"))
        fit(model, epochs=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert_equal(model, expected)


@needs_keras((3, 0), "gradient accumulation")
def test_a_model_saved_between_micro_batches_goes_on(tmp_path):
    def optimizer():
        return redrawn(Adam(0.1, gradient_accumulation_steps=3))  # 4 steps: one update and a third

    model = saved_and_loaded(trained(optimizer(), epochs=1), str(tmp_path / "model.keras"))
    assert int(model.optimizer.iterations) == 1
    fit(model, epochs=1)
    assert_equal(model, trained(optimizer(), epochs=2))


@needs_keras((3, 0), "fault of this kind")
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_model_loaded_from_h5_in_keras_3_trains_with_a_new_optimizer(tmp_path, policy):
    # Keras 3 cannot restore any optimizer from .h5: it builds it for no variables, and says so.
    keras.mixed_precision.set_global_policy(policy)
    try:
        saved = trained(redrawn(), epochs=1)
        model = saved_and_loaded(saved, str(tmp_path / "model.h5"))
        assert_equal(model, saved)
        compile_(saved, redrawn())
        fit(model, epochs=1)
        fit(saved, epochs=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert_equal(model, saved)


@needs_keras_2
@pytest.mark.parametrize("optimizer", [redrawn, remembering])
def test_a_saved_model_directory(tmp_path, optimizer):
    # Keras 2.6 restores no optimizer's slots from one, so only that it can be written and read.
    model = trained(optimizer(), "graph", epochs=1)
    model.save(str(tmp_path / "model"), save_format="tf")
    loaded = keras.models.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict(data()[0]), model.predict(data()[0]))
    assert type(loaded.optimizer) is RBD
    assert loaded.optimizer.rule.get_config() == model.optimizer.rule.get_config()


@pytest.mark.parametrize("optimizer", [redrawn, remembering])
def test_weights_and_the_optimizers_variables_goes_on(tmp_path, optimizer):
    expected = trained(optimizer(), epochs=2)
    first = trained(optimizer(), epochs=1)
    first.save_weights(str(tmp_path / "model.weights.h5"))
    variables = first.optimizer.variables
    state = values(variables() if callable(variables) else variables)

    model = dense_model(seed=1)
    compile_(model, optimizer())
    build_optimizer(model.optimizer, model.trainable_variables)
    model.load_weights(str(tmp_path / "model.weights.h5"))
    model.optimizer.set_weights(state)
    fit(model, epochs=1)
    assert_equal(model, expected)


@needs_keras_3
@pytest.mark.parametrize("optimizer", [redrawn, remembering])
def test_a_weight_file_has_the_optimizers_state(tmp_path, optimizer):
    path = str(tmp_path / "model.weights.h5")
    trained(optimizer(), epochs=1).save_weights(path)
    model = dense_model(seed=1)
    compile_(model, optimizer())
    build_optimizer(model.optimizer, model.trainable_variables)
    model.load_weights(path)
    fit(model, epochs=1)
    assert_equal(model, trained(optimizer(), epochs=2))


@pytest.mark.parametrize("scaled", [False, True])
def test_a_checkpoint_of_model_and_optimizer(tmp_path, scaled):
    def optimizer():
        return keras.mixed_precision.LossScaleOptimizer(redrawn()) if scaled else redrawn()

    first = trained(optimizer(), epochs=1)
    checkpoint = tf.train.Checkpoint(model=first, optimizer=first.optimizer)
    path = checkpoint.write(str(tmp_path / "checkpoint"))

    model = dense_model(seed=1)
    compile_(model, optimizer())
    build_optimizer(model.optimizer, model.trainable_variables)
    status = tf.train.Checkpoint(model=model, optimizer=model.optimizer).read(path)
    status.assert_existing_objects_matched()
    assert int(model.optimizer.iterations) == 4
    fit(model, epochs=1)
    assert_equal(model, trained(optimizer(), epochs=2))


@pytest.mark.parametrize("optimizer", [redrawn, remembering])
def test_a_checkpoint_restored_before_the_optimizer_is_built(tmp_path, optimizer):
    """TensorFlow restores variables that come later when they are made; Keras 3 needs them at once."""
    first = trained(optimizer(), epochs=1)
    path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).write(str(tmp_path / "checkpoint"))
    model = dense_model(seed=1)
    compile_(model, optimizer())
    if KERAS_VERSION >= (3, 0):
        build_optimizer(model.optimizer, model.trainable_variables)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).read(path)
    fit(model, epochs=1)
    assert_equal(model, trained(optimizer(), epochs=2))


class Interruption(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Interruption


@pytest.mark.parametrize("optimizer", [redrawn, remembering])
def test_backup_and_restore(tmp_path, optimizer):
    callbacks = keras.callbacks
    if not hasattr(callbacks, "BackupAndRestore"):
        callbacks = keras.callbacks.experimental  # 2.6

    def start(*more):
        model = dense_model()
        compile_(model, optimizer())
        if KERAS_VERSION >= (3, 0):
            build_optimizer(model.optimizer, model.trainable_variables)
        epochs = []
        seen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
        backup = callbacks.BackupAndRestore(str(tmp_path / "backup"))
        try:
            fit(model, epochs=4, callbacks=[backup, seen, *more])
        except Interruption:
            pass
        return model, epochs

    _, epochs = start(Interrupt())
    assert epochs == [0, 1, 2]
    model, epochs = start()
    assert epochs == [2, 3]
    assert_equal(model, trained(optimizer(), epochs=4))


# --- Configurations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(redrawn, id="plain"),
        pytest.param(lambda: redrawn(redraw_every=None, seed=2**64 - 1), id="fixed basis"),
        pytest.param(lambda: redrawn(scheduled()), id="schedule"),
        pytest.param(lambda: redrawn(basis=bases.get("bernoulli", 64, 5, p=0.25)), id="basis object"),
        pytest.param(lambda: redrawn(compartments=[40, 24], allocation=[2, 3]), id="lists"),
        pytest.param(lambda: redrawn(compartments=[40, 24], allocation="proportional"), id="proportional"),
        pytest.param(lambda: redrawn(SGD(0.5, clipnorm=0.1), name="mine"), id="clipnorm, name"),
        pytest.param(
            lambda: redrawn(keras.optimizers.AdamW(0.1, weight_decay=0.1, use_ema=True)),
            id="adamw",
            marks=needs_keras((2, 11), "AdamW"),
        ),
    ],
)
def test_a_configuration_makes_the_same_optimizer(optimizer):
    original = optimizer()
    description = json.loads(json.dumps(keras.optimizers.serialize(original), default=float))
    again = keras.optimizers.deserialize(description)
    assert type(again) is RBD
    assert type(again.inner_optimizer) is type(original.inner_optimizer)
    assert _plain(again.get_config()) == _plain(original.get_config())
    assert_equal(stepped(again), stepped(original))
    # The same without the registry of names.
    assert_equal(stepped(RBD.from_config(optimizer().get_config())), stepped(optimizer()))


def _plain(config):
    """As JSON reads it: lists for tuples, floats for NumPy's; tf-keras puts `lr` variables as arrays."""
    return json.loads(json.dumps(config, default=float))


def test_from_config_leaves_its_argument_alone():
    config = redrawn().get_config()
    before = _plain(config)
    RBD.from_config(config)
    assert set(config) == set(before)


def test_get_config_does_not_change_the_optimizer():
    optimizer = redrawn()
    first = optimizer.get_config()
    assert _plain(optimizer.get_config()) == _plain(first)
    assert_equal(stepped(optimizer), stepped(redrawn()))


def test_custom_inner_optimizers_are_found_by_custom_objects():
    class Halved(SGD):
        """Not registered with Keras."""

    original = redrawn(Halved(0.25))
    description = keras.optimizers.serialize(original)
    again = keras.optimizers.deserialize(description, custom_objects={"Halved": Halved})
    assert type(again.inner_optimizer) is Halved
    assert_equal(stepped(again), stepped(redrawn(Halved(0.25))))


def test_a_different_seed_in_the_configuration_makes_other_steps():
    config = redrawn().get_config()
    assert_differ(stepped(RBD.from_config({**config, "seed": 4})), stepped(RBD.from_config(config)))


@pytest.mark.parametrize("name", ["Adafactor", "Lamb", "Lion"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_optimizer_of_keras_is_found_again(tmp_path, name, suffix):
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"Keras {keras.__version__} has no {name}")
    model = dense_model()
    compile_(model, redrawn(getattr(keras.optimizers, name)(0.125)))
    path = str(tmp_path / f"model{suffix}")
    model.save(path)
    inner = keras.models.load_model(path).optimizer.inner_optimizer
    assert type(inner) is getattr(keras.optimizers, name)
    assert float(np.asarray(inner.learning_rate)) == 0.125
