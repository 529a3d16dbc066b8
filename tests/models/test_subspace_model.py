"""SubspaceModel: every kind of network, trained in d coordinates, against an explicit P in NumPy."""

import json

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import bases
from random_bases.keras_api import GENERATION, KERAS_VERSION, keras, set_random_seed
from random_bases.subspace import Subspace
from tests import networks
from tests.dense_reference import PER_BLOCK, dense, eagerly

SEED = 3
D = 5
MSE = keras.losses.MeanSquaredError

needs_keras_3 = pytest.mark.skipif(KERAS_VERSION < (3, 0), reason="of Keras 3")
has_keras_files = pytest.mark.skipif(KERAS_VERSION < (2, 11), reason="Keras 2.6 has no .keras files")


@pytest.fixture
def mixed_float16():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def wrapped(name="sequential", **arguments):
    """(sub, inputs, targets)."""
    model, x = networks.build(name)
    sub = rb.SubspaceModel(model, **{"dimensions": D, "seed": SEED, "basis": "rademacher", **arguments})
    return sub, x, networks.targets()


def matrix(sub):
    """P, float64 [D, d]: for dense directions in one compartment, without the package's help."""
    config = sub.get_config()
    size, d = sub._parametrisation.subspace.size, config["dimensions"]
    if config["basis"] in PER_BLOCK and config["compartments"] == "network":
        return dense(size, d, config["basis"], config["seed"])
    with eagerly():
        columns = [sub._parametrisation.subspace.expand(c, config["seed"]) for c in np.eye(d, dtype="f4")]
    return np.stack([flat(column) for column in columns], axis=1)


def flat(tensors):
    arrays = [tensor.numpy() if hasattr(tensor, "numpy") else tensor for tensor in tensors]
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def split(vector, like):
    ends = np.cumsum([np.size(array) for array in like])[:-1]
    return [part.reshape(np.shape(array)) for part, array in zip(np.split(vector, ends), like)]


def values(variables):
    return [np.array(variable.numpy()) for variable in variables]


def move(sub, scale=2.0):
    """Sets made-up coordinates."""
    c = np.random.RandomState(7).normal(size=sub.dimensions).astype(np.float32) * scale
    sub.coordinates.assign(c)
    return c


def plain_at(sub, c):
    """The wrapped model itself, its weights set to theta0 + P c by hand."""
    variables = sub.model.trainable_variables
    theta0 = values(variables)
    for variable, value in zip(variables, split(flat(theta0) + matrix(sub) @ c, theta0)):
        variable.assign(value.astype(np.float32))
    return sub.model


def gradient(model, variables, x, y, mode="eager"):
    """(loss, gradients) of a training step, regularisers included."""

    def step():
        with tf.GradientTape() as tape:
            loss = MSE()(y, tf.cast(model(x, training=False), tf.float32)) + sum(model.losses)
        return loss, tape.gradient(loss, variables)

    loss, gradients = step() if mode == "eager" else tf.function(step, autograph=False)()
    return float(loss), [np.asarray(tf.convert_to_tensor(g), np.float64) for g in gradients]


def compile_(sub, optimizer=None, mode="eager", **arguments):
    if mode == "eager":
        arguments["run_eagerly"] = True
    elif GENERATION != "keras2.6" and mode != "default":
        arguments["jit_compile"] = mode == "xla"
    arguments.setdefault("loss", MSE())
    sub.compile(keras.optimizers.SGD(0.1) if optimizer is None else optimizer, **arguments)


def fit(sub, x, y, epochs=1, **arguments):
    return sub.fit(x, y, batch_size=3, epochs=epochs, shuffle=False, verbose=0, **arguments)


def optimizer_sizes(optimizer):
    variables = optimizer.variables() if callable(optimizer.variables) else optimizer.variables
    return sorted(int(np.prod(v.shape)) for v in variables if len(v.shape))


# --- The mathematics ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", networks.EACH)
def test_outputs_losses_and_gradients_are_those_at_theta0_plus_p_c(name, mode):
    sub, x, y = wrapped(name)
    inputs = tf.nest.map_structure(tf.constant, x)
    p, c = matrix(sub), move(sub)
    loss, (found,) = gradient(sub, sub.trainable_variables, inputs, y, mode)
    outputs = np.asarray(sub(inputs, training=False))

    before = np.asarray(sub.model(inputs, training=False))
    plain = plain_at(sub, c)
    np.testing.assert_allclose(outputs, np.asarray(plain(inputs, training=False)), atol=1e-4)
    assert np.abs(outputs - before).max() > 1e-2
    expected_loss, gradients = gradient(plain, plain.trainable_variables, inputs, y)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    np.testing.assert_allclose(found, p.T @ flat(gradients), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("basis", ["normal", "hadamard"])
def test_a_step_of_sgd_is_one_along_the_projected_gradient(basis, mode):
    sub, x, y = wrapped(basis=basis)
    theta0 = values(sub.model.trainable_variables)
    compile_(sub, mode=mode)
    sub.fit(x, y, batch_size=len(y), epochs=1, verbose=0)
    _, gradients = gradient(sub.model, sub.model.trainable_variables, x, y)
    c = -0.1 * matrix(sub).T @ flat(gradients)
    np.testing.assert_allclose(sub.coordinates.numpy(), c, rtol=1e-4, atol=1e-6)
    trained = values(sub.materialize().trainable_variables)
    np.testing.assert_allclose(flat(trained), flat(theta0) + matrix(sub) @ c, atol=1e-5)
    np.testing.assert_array_equal(flat(sub.model.trainable_variables), flat(theta0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"compartments": "layer", "allocation": "proportional"},
        {"compartments": "variable", "allocation": [2, 1, 1, 1]},
        {"compartments": 3},
        {"compartments": [20, 37], "basis": "hadamard"},
        {"basis": bases.get("uniform", 57, D)},
    ],
    ids=str,
)
def test_compartments_and_bases_are_the_subspaces(arguments):
    sub, x, y = wrapped(**arguments)
    c = move(sub)
    paths = [getattr(v, "path", v.name.split(":")[0]) for v in sub.model.trainable_variables]
    subspace = Subspace(
        [v.shape for v in sub.model.trainable_variables],
        D,
        arguments.get("basis", "rademacher"),
        arguments.get("compartments", "network"),
        arguments.get("allocation", "even"),
        paths,
    )
    theta0 = flat(sub.model.trainable_variables)
    found = flat(sub.materialize().trainable_variables)
    np.testing.assert_allclose(found, theta0 + flat(subspace.expand(c, SEED)), atol=1e-6)


def test_a_seed_gives_other_directions():
    sub, *_ = wrapped(seed=4)
    other, *_ = wrapped(seed=5)
    move(sub), move(other)
    theta, other_theta = (flat(each.materialize().trainable_variables) for each in (sub, other))
    assert np.abs(theta - other_theta).max() > 0.1


# --- What Keras sees ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.EACH)
def test_only_the_coordinates_are_trained(name):
    sub, x, y = wrapped(name)
    theta0 = values(sub.model.trainable_variables)
    compile_(sub, keras.optimizers.Adam(0.05), mode="graph")
    losses = fit(sub, x, y, epochs=8).history["loss"]
    assert [tuple(v.shape) for v in sub.trainable_variables] == [(D,)]
    assert [tuple(v.shape) for v in sub.trainable_weights] == [(D,)]
    assert set(optimizer_sizes(sub.optimizer)) == {D}
    assert np.abs(sub.coordinates.numpy()).min() > 0.001
    np.testing.assert_array_equal(flat(sub.model.trainable_variables), flat(theta0))
    assert losses[-1] < losses[0] or name in ("normalised", "frozen")  # where dropout makes noise
    trained = sub.materialize()
    np.testing.assert_allclose(sub.predict(x, verbose=0), trained.predict(x, verbose=0), atol=1e-6)


def test_weights_are_listed_once_and_completely():
    sub, *_ = wrapped("normalised")
    ids = [id(v) for v in sub.weights]
    assert len(set(ids)) == len(ids) == len(sub.model.weights) + 1
    assert {id(v) for v in (*sub.trainable_weights, *sub.non_trainable_weights)} == set(ids)
    assert {id(v) for v in sub.non_trainable_weights} == {id(v) for v in sub.model.weights}
    sub.trainable = False
    assert sub.trainable_variables == []
    assert len(sub.non_trainable_weights) == len(ids)


def test_summary_shows_the_dimensions():
    lines = []
    sub, *_ = wrapped()
    sub.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines).replace(",", "")
    assert f"Trainable params: {D}" in text
    assert "Non-trainable params: 57" in text


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_moving_averages_follow_the_network_at_theta(mode):
    sub, x, y = wrapped("normalised")
    move(sub)
    reference = sub.materialize()
    compile_(sub, keras.optimizers.SGD(0.0), mode)
    compile_(reference, keras.optimizers.SGD(0.0), mode)
    before = values(sub.model.non_trainable_weights)
    sub.evaluate(x, y, verbose=0)
    sub.predict(x, verbose=0)
    np.testing.assert_array_equal(flat(sub.model.non_trainable_weights), flat(before))
    fit(sub, x, y)
    fit(reference, x, y)
    after = flat(sub.model.non_trainable_weights)
    assert np.abs(after - flat(before)).max() > 1e-3
    np.testing.assert_allclose(after, flat(reference.non_trainable_weights), atol=1e-6)
    np.testing.assert_array_equal(flat(sub.materialize().non_trainable_weights), after)


def test_frozen_batch_normalisation_stays_in_inference_mode():
    sub, x, y = wrapped("frozen")
    before = values(sub.model.non_trainable_weights)
    compile_(sub)
    fit(sub, x, y)
    np.testing.assert_array_equal(flat(sub.model.non_trainable_weights), flat(before))
    assert len(sub.materialize().trainable_weights) == len(sub.model.trainable_weights) == 4


def test_state_that_is_written_in_a_loop_is_kept():
    sub, x, y = wrapped("subclassed")
    compile_(sub, mode="graph")
    count = float(sub.model.blocks[1].count.numpy())
    fit(sub, x, y, epochs=2)
    assert float(sub.model.blocks[1].count.numpy()) == count + 2 * 2 * 2


def test_dropout_draws_anew_in_each_step():
    sub, x, _ = wrapped("normalised")
    step = tf.function(lambda: sub(x, training=True), autograph=False)
    a, b = np.asarray(step()), np.asarray(step())
    assert np.abs(a - b).max() > 1e-3
    np.testing.assert_array_equal(np.asarray(sub(x)), np.asarray(sub(x)))


def test_losses_of_layers_are_collected_once():
    sub, x, y = wrapped("regularised")
    move(sub)
    compile_(sub, keras.optimizers.SGD(0.0), mode="graph")
    found = sub.evaluate(x, y, batch_size=len(y), verbose=0)
    trained = sub.materialize()
    compile_(trained, mode="graph")
    assert found == pytest.approx(trained.evaluate(x, y, batch_size=len(y), verbose=0), rel=1e-5)
    assert fit(sub, x, y).history["loss"][0] > 0


@pytest.mark.parametrize("jit", [False, True])
def test_steps_per_execution(jit):
    if jit and GENERATION == "keras2.6":
        pytest.skip("Keras 2.6 has no jit_compile")
    coordinates = []
    for steps in (1, 2):
        sub, x, y = wrapped()
        compile_(sub, mode="xla" if jit else "graph", steps_per_execution=steps)
        fit(sub, x, y, epochs=2)
        coordinates.append(sub.coordinates.numpy())
    np.testing.assert_allclose(*coordinates, atol=1e-6)
    assert np.abs(coordinates[0]).max() > 0.01


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", ["normalised", "subclassed"])
def test_mixed_precision(mixed_float16, name, mode):
    sub, x, y = wrapped(name)
    assert sub.coordinates.dtype == "float32"
    assert sub(x).dtype == "float16"
    compile_(sub, keras.optimizers.SGD(0.1), mode)
    before = values(sub.model.non_trainable_weights)
    fit(sub, x, y, epochs=2)
    assert isinstance(sub.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert 0.001 < np.abs(sub.coordinates.numpy()).max() < 10
    if before:
        # Moving averages are kept in float32, not rounded to float16.
        after = flat(sub.model.non_trainable_weights)
        assert np.abs(after - flat(before)).max() > 0
        assert (after != after.astype(np.float16)).any() or name == "subclassed"
    trained = sub.materialize()
    # Exactly: theta is rounded to float16 once, where it is used.
    np.testing.assert_array_equal(np.asarray(sub(x)), np.asarray(trained(x)))


def test_early_stopping_restores_the_best_coordinates():
    sub, x, y = wrapped()
    compile_(sub, keras.optimizers.SGD(-0.05))  # uphill: the first epoch is the best
    callback = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = fit(sub, x, y, epochs=10, callbacks=[callback])
    assert len(history.history["loss"]) == 3
    first, *_ = wrapped()
    compile_(first, keras.optimizers.SGD(-0.05))
    fit(first, x, y)
    np.testing.assert_array_equal(sub.coordinates.numpy(), first.coordinates.numpy())


def two_heads():
    """Two outputs, "p" of three classes and "q" of one number, from five."""
    set_random_seed(0)
    x = keras.Input((5,))
    y = keras.layers.Dense(6, activation="tanh")(x)
    return keras.Model(x, [keras.layers.Dense(3, name="p")(y), keras.layers.Dense(1, name="q")(y)])


@pytest.mark.parametrize("by_name", [True, False])
def test_outputs_have_the_wrapped_models_names(by_name):
    def arguments(p, q):
        return {"p": p, "q": q} if by_name else [p, q]

    x, y = np.random.RandomState(0).normal(size=(8, 5)).astype("f4"), np.arange(8) % 3
    logs = []
    for model in (two_heads(), rb.SubspaceModel(two_heads(), D, seed=0)):
        model.compile(
            keras.optimizers.SGD(0.0),
            loss=arguments(keras.losses.SparseCategoricalCrossentropy(from_logits=True), "mse"),
            loss_weights=arguments(1.0, 0.5),
            metrics=arguments(["accuracy"], ["mae"]),
            run_eagerly=True,
        )
        history = model.fit(x, arguments(y, x[:, :1]), batch_size=8, verbose=0).history
        logs.append({name: values[0] for name, values in history.items()})
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    assert {"p_loss", "q_loss"} <= set(logs[0])


@has_keras_files
@pytest.mark.parametrize("name", ["branched", "subclassed"])
def test_it_is_exported(name, tmp_path):
    sub, x, _ = wrapped(name)
    move(sub)
    expected = np.asarray(sub.materialize()(x))  # without a call, of which Keras would know the inputs
    sub.export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(loaded.serve(x).numpy(), expected, atol=1e-6)


@has_keras_files
def test_a_loaded_model_is_exported(tmp_path):
    sub, x, _ = wrapped("sequential")
    move(sub)
    expected = np.asarray(sub(x))
    sub.save(str(tmp_path / "sub.keras"))
    keras.models.load_model(str(tmp_path / "sub.keras")).export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(loaded.serve(x).numpy(), expected, atol=1e-6)


@needs_keras_3
def test_integers_are_exported_as_integers(tmp_path):
    tokens = keras.Input((4,), dtype="int32")
    layers = [keras.layers.Embedding(7, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    sub = rb.SubspaceModel(keras.Sequential([tokens, *layers]), D, seed=0)
    x = np.arange(8, dtype=np.int32).reshape(2, 4) % 7
    sub.export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(loaded.serve(x).numpy(), np.asarray(sub(x)), atol=1e-6)


# --- materialize ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.EACH)
def test_materialize_gives_an_independent_model(name):
    sub, x, _ = wrapped(name)
    move(sub)
    trained = sub.materialize()
    assert type(trained) is type(sub.model)
    assert [v.trainable for v in trained.weights] == [v.trainable for v in sub.model.weights]
    np.testing.assert_allclose(np.asarray(trained(x)), np.asarray(sub(x)), atol=1e-6)
    before = values(sub.model.weights)
    for variable in trained.weights:
        variable.assign(np.zeros(variable.shape))
    np.testing.assert_array_equal(flat(sub.model.weights), flat(before))


class NoConfig(keras.Model):
    """A subclass that does not say how to rebuild it."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        raise NotImplementedError


def test_materialize_of_a_subclass_without_configuration():
    model = NoConfig(3)
    x = np.ones((2, 5), np.float32)
    model(x)
    sub = rb.SubspaceModel(model, D, seed=0)
    move(sub)
    if GENERATION == "keras2.6":
        np.testing.assert_allclose(np.asarray(sub.materialize()(x)), np.asarray(sub(x)), atol=1e-6)
    else:
        with pytest.raises(ValueError, match="cannot be cloned: implement its get_config"):
            sub.materialize()


class NoArguments(keras.Model):
    """A subclass whose configuration, Keras's own, is not what it takes."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class WrongConfig(NoConfig):
    def get_config(self):
        return {"units": 3, "what": 1}


class FailingConfig(NoConfig):
    def get_config(self):
        raise RuntimeError("not now")


@pytest.mark.parametrize("kind", [WrongConfig, FailingConfig])
def test_materialize_of_what_its_configuration_does_not_rebuild_is_refused_by_name(kind):
    model = kind(3)
    model(np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match=f"model={model.name!r} cannot be cloned: implement its get_config"):
        rb.SubspaceModel(model, D, seed=0).materialize()


@pytest.mark.parametrize("model", [lambda: NoConfig(3), NoArguments], ids=["no get_config", "no arguments"])
def test_models_that_were_trained_are_cloned_or_refused(model, tmp_path):
    x, model = np.ones((2, 5), np.float32), model()
    compile_(model, mode="graph")
    model.fit(x, np.ones((2, 3)), verbose=0)
    sub = rb.SubspaceModel(model, D, seed=0)
    move(sub)
    if GENERATION == "keras2.6" or (GENERATION == "tf_keras" and isinstance(model, NoArguments)):
        trained = sub.materialize()
        np.testing.assert_allclose(np.asarray(trained(x)), np.asarray(sub(x)), atol=1e-6)
        assert trained.optimizer is None and model.optimizer is not None
        compile_(trained, mode="graph")
        trained.fit(x, np.ones((2, 3)), verbose=0)
        trained.save_weights(str(tmp_path / "weights"))
    else:
        with pytest.raises(ValueError, match="cannot be cloned: implement its get_config"):
            sub.materialize()


# --- Saving ---------------------------------------------------------------------------------------


@has_keras_files
@pytest.mark.parametrize(
    "name",
    ["branched", "frozen", "recurrent", "regularised", "subclassed"],
)
def test_a_saved_model_goes_on_bit_for_bit(tmp_path, name):
    expected, x, y = wrapped(name)
    compile_(expected, keras.optimizers.Adam(0.05), "graph")
    fit(expected, x, y)
    expected.save(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(str(tmp_path / "model.keras"))
    assert type(loaded) is rb.SubspaceModel
    assert loaded.get_config()["seed"] == SEED
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected.predict(x, verbose=0))
    if name == "frozen":
        return  # the states of seed generators are not saved by Keras
    fit(loaded, x, y)
    fit(expected, x, y)
    np.testing.assert_array_equal(loaded.coordinates.numpy(), expected.coordinates.numpy())
    np.testing.assert_array_equal(flat(loaded.model.weights), flat(expected.model.weights))


@pytest.mark.skipif(GENERATION == "keras3", reason="Keras 3 does not save SavedModels of its own kind")
@pytest.mark.parametrize("name", ["normalised", "regularised"])
def test_a_saved_model_of_tensorflow_is_at_theta(tmp_path, name):
    sub, x, y = wrapped(name)
    compile_(sub, mode="graph")
    fit(sub, x, y)
    expected = sub.predict(x, verbose=0)
    sub.save(str(tmp_path / "model"), save_format="tf")
    np.testing.assert_array_equal(sub.predict(x, verbose=0), expected)
    loaded = keras.models.load_model(str(tmp_path / "model"))
    assert type(loaded) is rb.SubspaceModel
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    # Also where this package is unknown.
    traced = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(traced(x, training=False).numpy(), expected, atol=1e-6)
    (served,) = traced.signatures["serving_default"](tf.constant(x)).values()
    np.testing.assert_allclose(served.numpy(), expected, atol=1e-6)
    fit(loaded, x, y)
    fit(sub, x, y)
    assert name == "normalised" or (loaded.coordinates.numpy() == sub.coordinates.numpy()).all()


@pytest.mark.parametrize("suffix", [".weights.h5", ".ckpt"])
@pytest.mark.parametrize("name", ["branched", "subclassed"])
def test_saved_weights_are_restored(tmp_path, name, suffix):
    if suffix == ".ckpt" and GENERATION == "keras3":
        pytest.skip("Keras 3 saves weights as .h5 only")
    expected, x, y = wrapped(name)
    compile_(expected)
    fit(expected, x, y)
    expected.save_weights(str(tmp_path / f"a{suffix}"))
    loaded, *_ = wrapped(name)
    for variable in loaded.weights:
        variable.assign(np.zeros(variable.shape))
    loaded(x)
    loaded.load_weights(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(flat(loaded.weights), flat(expected.weights))
    assert np.abs(loaded.coordinates.numpy()).max() > 0.01


def test_a_configuration_rebuilds_the_same_directions():
    sub, *_ = wrapped(basis=bases.get("uniform", 57, D), compartments=[20, 37], allocation=[2, 3])
    config = json.loads(json.dumps(sub.get_config()))
    again = rb.SubspaceModel.from_config(config)
    again.set_weights(sub.get_weights())
    move(sub), move(again)
    np.testing.assert_array_equal(
        flat(again.materialize().trainable_weights), flat(sub.materialize().trainable_weights)
    )


def test_model_checkpoint_and_backup(tmp_path):
    expected, x, y = wrapped()
    compile_(expected, keras.optimizers.Adam(0.05), "graph")
    fit(expected, x, y, epochs=3)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks():
        directory = str(tmp_path / "backup")
        if GENERATION == "keras2.6":
            return [keras.callbacks.experimental.BackupAndRestore(directory)]
        return [keras.callbacks.BackupAndRestore(directory)]

    sub, *_ = wrapped()
    compile_(sub, keras.optimizers.Adam(0.05), "graph")
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)
    with pytest.raises(KeyboardInterrupt):
        fit(sub, x, y, epochs=3, callbacks=[*callbacks(), checkpoint, Stop()])
    resumed, *_ = wrapped()
    compile_(resumed, keras.optimizers.Adam(0.05), "graph")
    history = fit(resumed, x, y, epochs=3, callbacks=callbacks())
    assert len(history.history["loss"]) == 1
    np.testing.assert_array_equal(resumed.coordinates.numpy(), expected.coordinates.numpy())
    first, *_ = wrapped()
    compile_(first, keras.optimizers.Adam(0.05), "graph")
    fit(first, x, y)
    sub.load_weights(str(tmp_path / "1.weights.h5"))
    np.testing.assert_array_equal(sub.coordinates.numpy(), first.coordinates.numpy())


# --- What is refused ------------------------------------------------------------------------------


def test_a_seed_that_is_not_given_is_drawn_and_recorded():
    sub, *_ = wrapped(seed=None)
    assert 0 <= sub.seed < 2**31 and sub.get_config()["seed"] == sub.seed


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dimensions": 58}, ValueError, "dimensions=58 .* 57 parameters"),
        ({"dimensions": 0}, ValueError, "dimensions=0"),
        ({"dimensions": 2.5}, TypeError, "dimensions=2.5"),
        ({"basis": "gauss"}, ValueError, "basis='gauss'"),
        ({"basis": bases.get("normal", 56, D)}, ValueError, "size=57"),
        ({"compartments": "block"}, ValueError, "compartments='block'"),
        ({"compartments": "variable", "dimensions": 3}, ValueError, "dimensions=3"),
        ({"allocation": "odd"}, ValueError, "allocation='odd'"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 1.0}, TypeError, "seed=1.0"),
        ({"seed": 1.5}, TypeError, "seed=1.5"),
        ({"seed": np.bool_(True)}, TypeError, "seed=.*True.* must be an int"),
    ],
    ids=str,
)
def test_arguments_that_are_not_allowed(arguments, error, message):
    with pytest.raises(error, match=message):
        wrapped(**arguments)


def test_numpys_integers_are_allowed():
    sub, x, _ = wrapped(seed=np.int64(SEED))
    expected, *_ = wrapped()
    assert json.dumps(sub.get_config()["seed"]) == str(SEED)
    move(sub), move(expected)
    np.testing.assert_array_equal(np.asarray(sub(x)), np.asarray(expected(x)))


def test_models_that_cannot_be_trained_in_a_subspace():
    with pytest.raises(TypeError, match="model=.*must be a keras.Model"):
        rb.SubspaceModel(keras.layers.Dense(2), 1)
    with pytest.raises(ValueError, match="model='plain' is not built"):
        rb.SubspaceModel(keras.Sequential([keras.layers.Dense(2)], name="plain"), 1)
    model, _ = networks.build("sequential")
    model.trainable = False
    with pytest.raises(ValueError, match="has no trainable weights"):
        rb.SubspaceModel(model, 1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_constraint="non_neg")])
    with pytest.raises(ValueError, match="constraint on .*kernel"):
        rb.SubspaceModel(model, 1)


class Counting(keras.layers.Dense):
    """Dense that counts, in a weight that was left trainable: no optimizer moves it."""

    def build(self, input_shape):
        super().build(input_shape)
        self.count = self.add_weight(name="count", shape=(), dtype="int32", initializer="zeros")


def test_weights_without_gradient_are_refused():
    model = keras.Sequential([keras.Input((2,)), Counting(2)])
    with pytest.raises(ValueError, match="trainable weight .*count.* of dtype int32"):
        rb.SubspaceModel(model, 1)


@needs_keras_3
def test_float8_models_are_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.layers[0].quantize("float8")
    with pytest.raises(ValueError, match="quantised to float8: Keras sets its trainable .*scale"):
        rb.SubspaceModel(model, 1)


def step_of_its_own(name):
    def method(self, *arguments, **more):
        raise AssertionError("never called")

    return type("Own", (keras.Sequential,), {name: method})([keras.Input((2,)), keras.layers.Dense(2)])


@pytest.mark.parametrize("name", ["train_step", "test_step", "compute_loss", "compute_metrics"])
def test_methods_of_training_that_would_be_ignored_are_refused(name):
    """`fit` calls those of the `SubspaceModel`."""
    if not hasattr(keras.Model, name):
        pytest.skip(f"Keras 2.6 has no {name}")
    with pytest.raises(ValueError, match=f"Own.{name} would be ignored"):
        rb.SubspaceModel(step_of_its_own(name), 1)


class Decorated(keras.layers.Dense):
    @tf.function
    def call(self, inputs):
        return super().call(inputs)


def test_a_decorated_layer_is_refused():
    # Traced when the model was made, with the weights of then.
    model = keras.Sequential([keras.Input((5,)), Decorated(3)])
    with pytest.raises(ValueError, match="Decorated.call is a tf.function"):
        rb.SubspaceModel(model, 2)


class Traced(keras.layers.Dense):
    def call(self, inputs):
        return tf.function(super().call, autograph=False)(inputs)


class Assigning(keras.layers.Dense):
    def call(self, inputs):
        self.kernel.assign(self.kernel * 0.5)
        return super().call(inputs)


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize(("layer", "message"), [(Traced, "tf.function"), (Assigning, "assigns to")])
def test_layers_that_would_go_wrong_unseen(layer, message, mode):
    model = keras.Sequential([keras.Input((5,)), layer(3)])
    sub = rb.SubspaceModel(model, 2, seed=0)
    x = np.ones((2, 5), np.float32)
    before = flat(model.trainable_variables)
    with pytest.raises(ValueError, match=message):
        sub(x) if mode == "eager" else tf.function(lambda: sub(x), autograph=False)()
    # As it was: nothing of the failed call is left.
    np.testing.assert_array_equal(flat(model.trainable_variables), before)


class OwnGradient(keras.layers.Dense):
    """Dense, with a gradient written out: where TensorFlow hands over the variables that were read."""

    def call(self, inputs):
        @tf.custom_gradient
        def product(x):
            kernel = tf.convert_to_tensor(self.kernel)

            def gradient(upstream, variables=None):
                del variables
                return tf.matmul(upstream, kernel, transpose_b=True), [
                    tf.matmul(x, upstream, transpose_a=True)
                ]

            return tf.matmul(x, kernel), gradient

        return product(inputs) + self.bias


class OwnGradientOfArguments(keras.layers.Dense):
    """The same with the kernel as an argument, so that its gradient arrives."""

    def call(self, inputs):
        @tf.custom_gradient
        def product(x, kernel):
            def gradient(upstream):
                return tf.matmul(upstream, kernel, transpose_b=True), tf.matmul(x, upstream, transpose_a=True)

            return tf.matmul(x, kernel), gradient

        return product(inputs, tf.convert_to_tensor(self.kernel)) + self.bias


def model_of(layer):
    set_random_seed(0)
    return keras.Sequential([keras.Input((5,)), layer(4), keras.layers.Dense(3)])


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("layer", [networks.Rematerialised, OwnGradient])
def test_weights_that_are_read_where_their_gradient_is_lost_are_refused(layer, mode):
    sub = rb.SubspaceModel(model_of(layer), 2, seed=0)
    x = np.ones((2, 5), np.float32)
    with pytest.raises(
        ValueError, match="reads its weight .*kernel.* in a function with a gradient of its own"
    ):
        sub(x) if mode == "eager" else tf.function(lambda: sub(x), autograph=False)()


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_gradients_of_functions_that_get_weights_as_arguments_arrive(mode):
    x, y = tf.constant(networks.build("sequential")[1]), networks.targets()
    found, expected = (
        gradient(sub, sub.trainable_variables, x, y, mode)[1][0]
        for sub in (
            rb.SubspaceModel(model_of(layer), 4, seed=0)
            for layer in (OwnGradientOfArguments, keras.layers.Dense)
        )
    )
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# --- Memory ---------------------------------------------------------------------------------------


def test_nothing_of_size_d_times_n_is_kept_for_the_gradient():
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(50), keras.layers.Dense(3)])
    sub = rb.SubspaceModel(model, 64, seed=SEED)

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(sub(x))
        return tape.gradient(loss, sub.trainable_variables)

    graph = step.get_concrete_function(tf.zeros((2, 40))).graph
    sizes = [
        int(np.prod(tensor.shape.as_list()))
        for operation in graph.get_operations()
        for tensor in operation.outputs
        if tensor.shape.is_fully_defined()
    ]
    assert sub.model.count_params() == 2203
    assert 40 * 50 <= max(sizes) <= 2203  # a kernel, or all weights; a direction more would be too much
