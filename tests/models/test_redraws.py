"""SubspaceModel with redraws and with factored bases: gradients that are coordinates from the start."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, keras, set_random_seed, tf_variable_of
from random_bases.models import tapping
from tests import networks
from tests.coordinate_gradients import SEED, assert_coordinates_of_the_gradient, gradients, normal

L = keras.layers
ROOT = Path(__file__).resolve().parents[2]
MSE = keras.losses.MeanSquaredError
QUICK = ("branched", "subclassed")  # of `networks`
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
einsum_dense = getattr(L, "EinsumDense", None) or L.experimental.EinsumDense


# --- The law of one layer -------------------------------------------------------------------------

LAYERS = {
    "dense": (lambda: L.Dense(5, activation="tanh"), (6,)),
    "dense of rank 4": (lambda: L.Dense(5), (2, 3, 6)),
    "einsum": (
        lambda: einsum_dense("abc,cde->abde", (None, 2, 3), bias_axes="de", activation="tanh"),
        (4, 6),
    ),
    "einsum of two axes": (lambda: einsum_dense("abcd,cde->abe", (None, 5)), (4, 2, 3)),
    "conv1d": (lambda: L.Conv1D(5, 3, strides=2, activation="tanh"), (9, 4)),
    "conv2d": (lambda: L.Conv2D(5, (3, 2), padding="same", strides=(1, 2)), (6, 7, 4)),
    "dilated": (lambda: L.Conv2D(5, 3, dilation_rate=2), (7, 7, 4)),
    "conv3d": (lambda: L.Conv3D(3, 2), (3, 4, 3, 4)),
    "transposed 1d": (lambda: L.Conv1DTranspose(5, 3, strides=2, activation="tanh"), (5, 4)),
    "transposed 2d": (lambda: L.Conv2DTranspose(5, (3, 2), strides=(1, 2), padding="same"), (4, 3, 4)),
    "transposed, far": (lambda: L.Conv2DTranspose(3, 2, strides=3), (3, 2, 4)),
    "transposed 3d": (lambda: L.Conv3DTranspose(3, 2, strides=2, padding="same"), (2, 3, 2, 4)),
    "embedding": (lambda: L.Embedding(11, 6), None),
}


def one_layer(name):
    make, shape = LAYERS[name]
    set_random_seed(0)
    if shape is None:
        inputs, x = keras.Input((4,), dtype="int32"), np.random.RandomState(0).randint(0, 11, (3, 4))
    else:
        inputs, x = keras.Input(shape), normal(3, *shape)
    return keras.Model(inputs, make()(inputs)), x


@pytest.mark.parametrize("sides", ["one", "both"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_a_kernels_coordinates_is_that_of_the_kernel_projected(monkeypatch, name, sides):
    if sides == "both":
        monkeypatch.setattr(
            "random_bases.bases.kronecker.best_ranks",
            lambda matrix, dimensions: (max(1, matrix[1] // 2), max(1, matrix[2] // 2)),
        )
        # Programs are shared by equal subspaces, which these are not.
        monkeypatch.setattr("random_bases.subspace._shared_programs", lambda key: {})
    model, x = one_layer(name)
    assert len(tapping.of(model, model.trainable_variables)) == 1
    size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    sub = rb.SubspaceModel(model, max(2, size // 6), basis="kronecker", seed=SEED, redraw_every=1)
    assert_coordinates_of_the_gradient(sub, x)


@pytest.mark.parametrize(("basis", "redraw_every"), [("kronecker", None), ("kronecker", 1), ("hadamard", 1)])
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else slow(name) for name in sorted(networks.ALL)],
)
def test_of_whole_networks_too(name, basis, redraw_every):
    model, x = networks.build(name)
    sub = rb.SubspaceModel(model, 20, basis=basis, seed=SEED, redraw_every=redraw_every)
    if redraw_every is None:
        sub.coordinates.assign(normal(20, seed=1))
    assert_coordinates_of_the_gradient(sub, x)


def test_kernels_that_are_used_elsewhere_too():
    """A tied output: the embedding's rows are the weights of the last product."""

    @rb.keras_api.register_serializable
    class Tied(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.embedding = L.Embedding(11, 6)

        def call(self, ids):
            y = self.embedding(ids)
            return tf.matmul(tf.tanh(y), tf.convert_to_tensor(self.embedding.embeddings), transpose_b=True)

        def get_config(self):
            return {"name": self.name}

    model = Tied()
    ids = np.random.RandomState(0).randint(0, 11, (3, 4))
    model(ids)
    sub = rb.SubspaceModel(model, 14, basis="kronecker", seed=SEED, redraw_every=1)
    assert_coordinates_of_the_gradient(sub, ids)


def test_weights_without_elements_are_left_alone():
    class WithEmpty(L.Layer):
        def build(self, shape):
            self.empty = self.add_weight(name="empty", shape=(0, 3))
            self.gain = self.add_weight(name="gain", shape=(5,), initializer="ones")

        def call(self, x):
            return x * self.gain

    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(4, "tanh")(WithEmpty()(L.Dense(5)(inputs))))
    sub = rb.SubspaceModel(model, 14, basis="kronecker", seed=SEED, redraw_every=1)
    x = normal(3, 6)
    _, (found,) = gradients(sub, [sub.coordinates], x)
    _, whole = gradients(model, model.trainable_variables, x)
    expected = sub._parametrisation.subspace.project(whole, SEED, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    compiled(sub, keras.optimizers.Adam(0.1))
    fit(sub, x[:2], np.ones([2, 4], np.float32))


def test_the_layers_are_as_before_after_a_call():
    model, x = networks.build("sequential")
    before = [dict(vars(layer)) for layer in model.layers]
    sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=1)
    sub(x)
    for layer, attributes in zip(model.layers, before):
        assert "call" not in vars(layer) and vars(layer)["activation"] is attributes["activation"]
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        sub(normal(2, 99))
    assert all("call" not in vars(layer) for layer in model.layers)


def test_no_gradient_of_a_kernels_shape_is_computed():
    model = keras.Sequential([keras.Input((300,)), L.Dense(200, use_bias=False)])
    sub = rb.SubspaceModel(model, 600, basis="kronecker", seed=SEED, redraw_every=1)

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(sub(x) ** 2)
        return tape.gradient(loss, tf_variable_of(sub.coordinates))

    program = step.experimental_get_compiler_ir(tf.zeros([16, 300]))(stage="optimized_hlo")
    outputs = [line.split("=")[1] for line in program.splitlines() if " = f32[" in line]
    made = [line for line in outputs if "parameter(" not in line]
    assert made and not any("f32[300,200]" in line.split("{")[0] for line in made)
    assert not any("f32[200,300]" in line.split("{")[0] for line in made)


_COMPILED = """
import glob, sys
import numpy as np, tensorflow as tf
import random_bases as rb
from random_bases.keras_api import keras
x = np.random.RandomState(0).normal(size=[12, 30]).astype(np.float32)
model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20), keras.layers.Dense(3)])
sub = rb.SubspaceModel(model, 60, basis="kronecker", seed=0, redraw_every=1)
assert any(basis.shifted for basis in sub._parametrisation.subspace.compartment_bases)
sub.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=True)
sub.fit(x, x[:, :3], batch_size=4, epochs=1, verbose=0)
once = len(glob.glob(sys.argv[1] + "/*after_optimizations.txt"))
sub.fit(x, x[:, :3], batch_size=4, epochs=1, verbose=0)
print("RESULTS", once, len(glob.glob(sys.argv[1] + "/*after_optimizations.txt")))
"""


@pytest.mark.slow
@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no compile(jit_compile=)")
def test_a_redraw_compiles_nothing_anew(tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-c", _COMPILED, str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=str(ROOT), XLA_FLAGS=flags),
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    once, again = done.stdout.decode().split()[-2:]
    assert int(once) >= 1 and again == once


def test_second_derivatives_are_refused():
    sub = rb.SubspaceModel(networks.build("sequential")[0], 20, basis="kronecker", seed=SEED)
    c = tf_variable_of(sub.coordinates)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = tf.reduce_sum(sub(normal(2, 5)) ** 2)
            first = inner.gradient(loss, c)
        outer.gradient(first, c)


# --- Redraws --------------------------------------------------------------------------------------


def compiled(model, optimizer, mode="graph"):
    options = {} if GENERATION == "keras2.6" else {"jit_compile": mode == "xla"}
    model.compile(optimizer, loss=MSE(), **options)
    return model


def fit(model, x, y, epochs=2, **options):
    return model.fit(x, y, batch_size=2, epochs=epochs, shuffle=False, verbose=0, **options)


@pytest.mark.parametrize(
    ("basis", "every", "mode"),
    [("kronecker", 1, "graph"), ("kronecker", 3, "xla"), ("hadamard", 1, "graph")],
)
def test_with_sgd_it_is_random_bases_descent(basis, every, mode):
    (model, x), (other, _) = networks.build("sequential"), networks.build("sequential")
    y = networks.targets()
    sub = rb.SubspaceModel(model, 20, basis=basis, seed=SEED, redraw_every=every)
    fit(compiled(sub, keras.optimizers.SGD(0.1), mode), x, y)
    descent = rb.RandomBasesDescent(
        keras.optimizers.SGD(0.1), dimensions=20, basis=basis, seed=SEED, redraw_every=every
    )
    fit(compiled(other, descent, mode), x, y)
    for ours, theirs, start in zip(
        model.get_weights(), other.get_weights(), networks.build("sequential")[0].get_weights()
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
        assert np.abs(ours - start).max() > 1e-3
    assert not np.any(sub.coordinates.numpy())


def test_a_loop_of_your_own_advances():
    (model, x), (other, _) = networks.build("sequential"), networks.build("sequential")
    y = networks.targets()
    fitted = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=2)
    fit(compiled(fitted, keras.optimizers.SGD(0.1)), x, y, epochs=1)
    sub = rb.SubspaceModel(other, 20, basis="kronecker", seed=SEED, redraw_every=2)
    optimizer = keras.optimizers.SGD(0.1)
    for begin in range(0, len(x), 2):
        with tf.GradientTape() as tape:
            loss = MSE()(y[begin : begin + 2], sub(x[begin : begin + 2]))
        gradient = tape.gradient(loss, tf_variable_of(sub.coordinates))
        optimizer.apply_gradients([(gradient, sub.coordinates)])
        sub.advance()
    for ours, theirs in zip(other.get_weights(), model.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_loop_that_does_not_advance_is_told():
    sub = rb.SubspaceModel(networks.build("sequential")[0], 20, basis="kronecker", redraw_every=1)
    sub.coordinates.assign(normal(20))
    with pytest.raises(tf.errors.InvalidArgumentError, match="call advance"):
        sub(normal(2, 5))


@pytest.mark.parametrize("state", ["project", "keep", "reset"])
def test_the_optimizers_state_at_a_redraw(state):
    model, x = networks.build("sequential")
    sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=2, optimizer_state=state)
    compiled(sub, keras.optimizers.Adam(0.01))

    def slots():
        return rb.keras_api.slots_of(sub.optimizer, sub.coordinates)

    x, y = x[:2], networks.targets()[:2]
    fit(sub, x, y, epochs=1)
    (first,) = (name for name in slots() if name in ("m", "momentum"))
    (second,) = (name for name in slots() if name in ("v", "velocity"))
    # The second update is followed by a redraw: what the state would be without it.
    twin = rb.SubspaceModel(networks.build("sequential")[0], 20, basis="kronecker", seed=SEED, redraw_every=9)
    compiled(twin, keras.optimizers.Adam(0.01))
    fit(twin, x, y, epochs=2)
    fit(sub, x, y, epochs=1)
    old = {
        name: slot.numpy() for name, slot in rb.keras_api.slots_of(twin.optimizer, twin.coordinates).items()
    }
    new = {name: slot.numpy() for name, slot in slots().items()}
    subspace = sub._parametrisation.subspace
    carried = subspace.project(subspace.expand(old[first], SEED, 0), SEED, 1)
    expected = {
        "keep": old,
        "reset": {name: np.zeros(20) for name in old},
        "project": {**old, first: carried.numpy()},
    }[state]
    for name in (first, second):
        np.testing.assert_allclose(new[name], expected[name], atol=1e-6)
    assert np.abs(old[first]).max() > 1e-3


def optimizers():
    """Optimizer -> the names of its state, first moments first, of this Keras."""
    new = GENERATION != "keras2.6"
    adam = ("momentum", "velocity") if GENERATION == "keras3" else ("m", "v")
    found = {
        "adam": (keras.optimizers.Adam(0.01), adam),
        "scaled": (keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.01)), adam),
        "sgd": (keras.optimizers.SGD(0.01, momentum=0.9), ("momentum" if GENERATION == "keras3" else "m",)),
        "rmsprop": (
            keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
            ("momentum", "average_gradient", "velocity") if new else ("momentum", "mg", "rms"),
        ),
        "adagrad": (keras.optimizers.Adagrad(0.01), ("accumulator",)),
    }
    if GENERATION == "keras2.6":
        found["sgd"] = (keras.optimizers.SGD(0.01, momentum=0.9), ("momentum",))
    if GENERATION == "tf_keras":
        found["legacy"] = (keras.optimizers.legacy.Adam(0.01), adam)
    return found


@pytest.mark.parametrize("name", [each if each == "rmsprop" else slow(each) for each in optimizers()])
def test_every_state_of_an_optimizer_is_known(name):
    """So "reset" makes all of it zero at a redraw."""
    optimizer, names = optimizers()[name]
    model, x = networks.build("sequential")
    sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=2, optimizer_state="reset")
    compiled(sub, optimizer)
    x, y = x[:2], networks.targets()[:2]

    def state():
        return {key: slot.numpy() for key, slot in rb.keras_api.slots_of(optimizer, sub.coordinates).items()}

    fit(sub, x, y, epochs=1)
    assert set(state()) == set(names)
    assert all(np.any(values) for values in state().values())
    fit(sub, x, y, epochs=1)
    assert not any(np.any(values) for values in state().values())


def test_a_run_that_is_saved_goes_on_bit_for_bit(tmp_path):
    y = networks.targets()

    def new():
        model, x = networks.build("sequential")
        sub = rb.SubspaceModel(model, 30, basis="kronecker", seed=SEED, redraw_every=2)
        return compiled(sub, keras.optimizers.Adam(0.01)), x

    whole, x = new()
    fit(whole, x, y, epochs=3)
    begun, _ = new()
    fit(begun, x, y, epochs=1)
    checkpoint = tf.train.Checkpoint(model=begun, optimizer=begun.optimizer).save(str(tmp_path / "c"))
    resumed, _ = new()
    fit(resumed, x[:2], y[:2], epochs=1)  # so that the optimizer is built
    tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer).restore(checkpoint)
    fit(resumed, x, y, epochs=2)
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no .keras files")
def test_a_saved_model_is_loaded_with_its_redraws(tmp_path):
    model, x = networks.build("sequential")
    y = networks.targets()
    sub = compiled(
        rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=2, optimizer_state="keep"),
        keras.optimizers.Adam(0.01),
    )
    fit(sub, x, y, epochs=1)
    sub.save(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(str(tmp_path / "model.keras"))
    assert (loaded.redraw_every, loaded.optimizer_state) == (2, "keep")
    for each in (sub, loaded):
        fit(each, x, y, epochs=1)
    for ours, theirs in zip(loaded.get_weights(), sub.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no accumulation")
def test_a_redraw_waits_for_accumulated_gradients():
    if GENERATION == "tf_keras":
        pytest.skip("tf-keras has no accumulation")
    (model, x), (other, _) = networks.build("sequential"), networks.build("sequential")
    y = networks.targets()
    sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=1)
    compiled(sub, keras.optimizers.SGD(0.1, gradient_accumulation_steps=3))
    fit(sub, x, y, epochs=2)
    whole = rb.SubspaceModel(other, 20, basis="kronecker", seed=SEED, redraw_every=1)
    compiled(whole, keras.optimizers.SGD(0.1))
    whole.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0)
    assert int(sub._coordinates.made.numpy()) == 2
    for ours, theirs in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# On two replicas, with what all-reduces are handed, and logged; on one, with the whole batches.
_REPLICAS = """
import json, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import random_bases as rb
from random_bases.keras_api import keras, tf_variable_of
from tests import networks

def train(strategy, *callbacks):
    with strategy.scope():
        model, x = networks.build("sequential")
        sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=3, redraw_every=2)
        options = {} if rb.keras_api.GENERATION == "keras2.6" else {"jit_compile": False}
        sub.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=keras.losses.MeanSquaredError(), **options)
    data = tf.data.Dataset.from_tensor_slices((x, networks.targets())).batch(2)
    sub.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    return [tf_variable_of(v) for v in model.trainable_variables]

from tensorflow.python.distribute import cross_device_ops
sizes, original = set(), cross_device_ops.CrossDeviceOps.batch_reduce
def batch_reduce(self, op, pairs, *arguments, **options):
    sizes.update(int(value.values[0].shape.num_elements()) for value, _ in pairs)
    return original(self, op, pairs, *arguments, **options)
cross_device_ops.CrossDeviceOps.batch_reduce = batch_reduce

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
weights = train(two, rb.ReplayLog(sys.argv[1]))
replicas = [[local.numpy() for local in two.experimental_local_results(v)] for v in weights]
one = [v.numpy() for v in train(tf.distribute.get_strategy())]
replayed = rb.replay(sys.argv[1], networks.build("sequential")[0]).trainable_variables
print("RESULTS " + json.dumps({
    "equal": all(np.array_equal(a, b) for a, b in replicas),
    "off": max(float(abs(a - c).max()) for (a, _), c in zip(replicas, one)),
    "reduced": max(sizes),
    "replayed": all(np.array_equal(a, v.numpy()) for (a, _), v in zip(replicas, replayed)),
}))
"""


@pytest.mark.slow
def test_replicas_exchange_coordinates_and_have_the_same_weights(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _REPLICAS, str(tmp_path / "run.log")],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found = json.loads(done.stdout.decode().splitlines()[-1][len("RESULTS ") :])
    assert found["equal"] and found["replayed"] and found["off"] < 1e-6
    assert found["reduced"] == 20  # the coordinates' gradient is the largest


def test_a_fixed_factored_basis_is_exported_in_a_few_bytes(tmp_path):
    model, x = networks.build("sequential")
    y = networks.targets()
    sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED)
    fit(compiled(sub, keras.optimizers.Adam(0.01)), x, y)
    sub.export_compressed(str(tmp_path / "model.rb"))
    again, _ = networks.build("sequential")
    loaded = rb.load_compressed(str(tmp_path / "model.rb"), again)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), sub.predict(x, verbose=0), atol=1e-6)


def test_half_precision_has_nearly_the_gradient():
    def coordinates_gradient():
        model, x = networks.build("sequential")
        sub = rb.SubspaceModel(model, 20, basis="kronecker", seed=SEED, redraw_every=1)
        return gradients(sub, [sub.coordinates], x)[1][0]

    exact = coordinates_gradient()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        found = coordinates_gradient()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.float32
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.03


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"redraw_every": 0}, ValueError, "redraw_every=0"),
        ({"redraw_every": 1.5}, TypeError, "redraw_every=1.5"),
        ({"optimizer_state": "drop"}, ValueError, "optimizer_state='drop'.*project"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, error, message):
    with pytest.raises(error, match=message):
        rb.SubspaceModel(networks.build("sequential")[0], 5, **arguments)


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no weight decay")
@pytest.mark.parametrize("options", [{"weight_decay": 0.01}, {"use_ema": True}])
@pytest.mark.parametrize("scaled", [False, True])
def test_decay_and_averages_of_coordinates_are_refused(options, scaled):
    sub = rb.SubspaceModel(networks.build("sequential")[0], 20, basis="kronecker", redraw_every=1)
    optimizer = keras.optimizers.Adam(0.01, **options)
    sub.compile(keras.mixed_precision.LossScaleOptimizer(optimizer) if scaled else optimizer, loss="mse")
    with pytest.raises(ValueError, match=next(iter(options))):
        fit(sub, normal(2, 5), networks.targets()[:2])


def test_what_needs_one_basis_is_refused_with_redraws(tmp_path):
    sub = rb.SubspaceModel(networks.build("sequential")[0], 20, redraw_every=1)
    with pytest.raises(ValueError, match="export_compressed.*redraw_every=1"):
        sub.export_compressed(str(tmp_path / "model.rb"))
    with pytest.raises(ValueError, match="redraw_every=None"):
        rb.SubspaceModel(networks.build("sequential")[0], 20).advance()
