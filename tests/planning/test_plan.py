"""Plans: what is counted of shapes, how it grows, the table, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import keras_api
from random_bases.keras_api import GENERATION, keras
from random_bases.planning import METHODS

DIMENSIONS = 500
SIZE = 64 * 128 + 128 + 128 * 10 + 10
X, Y = np.zeros((32, 64), np.float32), np.zeros(32, np.int64)
LORA = GENERATION == "keras3"


def build(units=128, compiled=True):
    x = keras.Input((64,))
    hidden = keras.layers.Dense(units, activation="relu", name="hidden")(x)
    model = keras.Model(x, keras.layers.Dense(10, name="logits")(hidden))
    if compiled:
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def plan():
    return rb.plan(build(), (X, Y), DIMENSIONS)


def test_all_methods_are_planned_where_keras_has_them(plan):
    assert list(plan.methods) == [name for name in METHODS if name != "lora" or LORA]
    assert plan.batch == X.nbytes + Y.nbytes


def test_what_trains_is_told_by_layer(plan):
    weights = {"hidden": 64 * 128 + 128, "logits": 128 * 10 + 10}
    for name in ("sgd", "adamw", "nes"):
        assert plan.methods[name].trained == weights
    for name in ("rbd", "rbd_error_feedback", "subspace"):
        assert plan.methods[name].trained == {"all layers": DIMENSIONS}
    factored = plan.methods["kronecker"].trained
    assert set(factored) == {"hidden", "logits"}
    assert sum(factored.values()) == DIMENSIONS
    # In proportion to the layers' sizes.
    assert factored["hidden"] / DIMENSIONS == pytest.approx(weights["hidden"] / SIZE, abs=0.01)
    if LORA:
        assert plan.methods["lora"].trained == {"hidden": 4 * (64 + 128), "logits": 4 * (128 + 10)}


def test_bytes_are_those_of_shapes(plan):
    of = plan.methods
    for name, each in of.items():
        factors = 4 * sum(each.trained.values()) if name == "lora" else 0
        assert each.weights == 4 * SIZE + factors, name
        assert each.peak > each.weights + each.optimizer + plan.batch, name
    assert of["sgd"].optimizer == of["kronecker"].optimizer == 0
    assert of["adamw"].optimizer == 2 * of["rbd_error_feedback"].optimizer == 8 * SIZE
    assert of["sgd"].gradient == 4 * 64 * 128  # of the largest kernel
    assert of["rbd"].gradient == 4 * SIZE
    exchanged = {name: each.exchanged for name, each in of.items() if name not in ("nes", "lora")}
    assert {name for name, count in exchanged.items() if count == 4 * SIZE} == {"sgd", "adamw"}
    assert {count for count in exchanged.values()} == {4 * SIZE, 4 * DIMENSIONS}
    assert of["nes"].exchanged is None


def test_activations_kept_grow_with_the_batch_and_are_fewer_in_factored_bases(plan):
    double = rb.plan(build(), (tf.TensorSpec([64, 64]), tf.TensorSpec([64], tf.int64)), DIMENSIONS)
    for name in ("sgd", "rbd", "kronecker"):
        kept, more = plan.methods[name].activations, double.methods[name].activations
        # What is drawn of a basis does not grow.
        assert more >= 1.3 * kept if name == "kronecker" else more == pytest.approx(2 * kept, rel=0.01)
    # Before and after the ReLU, and what the loss keeps of [32, 10].
    assert plan.methods["sgd"].activations == pytest.approx(2 * 4 * 32 * 128, rel=0.15)
    assert double.methods["kronecker"].activations < double.methods["sgd"].activations
    assert plan.methods["nes"].activations == 0


def test_a_built_model_agrees_with_its_plan(plan):
    model = build()
    optimizer = keras.optimizers.Adam()
    keras_api.build_optimizer(optimizer, model.trainable_variables)
    slots = [keras_api.slots_of(optimizer, variable) for variable in model.trainable_variables]
    held = sum(4 * np.prod(v.shape) for each in slots for v in each.values() if len(v.shape))
    assert plan.methods["adamw"].optimizer == held
    sub = rb.SubspaceModel(model, DIMENSIONS, basis="kronecker", redraw_every=1)
    assert 4 * int(sub.coordinates.shape[0]) == plan.methods["kronecker"].exchanged


def test_the_table_has_a_row_for_each_method(plan):
    header, *rows = str(plan).splitlines()
    assert header.split() == [
        "MB",
        "trained",
        *("weights", "optimizer", "gradient", "directions", "activations", "peak", "exchanged"),
    ]
    assert [row.split()[0] for row in rows] == list(plan.methods)
    sgd = dict(zip(header.split(), rows[0].split()))
    assert sgd["trained"] == f"{SIZE:,}"
    assert float(sgd["weights"]) == pytest.approx(4 * SIZE / 1e6, rel=0.01)
    assert dict(zip(header.split(), rows[-1].split()))["exchanged"] == "-"


def test_planning_changes_nothing():
    model = build()
    before = [variable.numpy() for variable in model.variables]
    rb.plan(model, (X, Y), DIMENSIONS, methods=["sgd", "kronecker"])
    assert len(model.variables) == len(before)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert np.isfinite(model.train_on_batch(X, Y))


def recurrent():
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.GRU(4), keras.layers.Dense(10)])
    model.compile("sgd", "mse")
    return model


def test_functions_whose_inside_is_not_seen_are_refused():
    class Hidden(keras.layers.Layer):
        @tf.function
        def call(self, x):
            return tf.tanh(tf.matmul(x, tf.ones([64, 64])))

    model = keras.Sequential([keras.Input((64,)), Hidden(), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="has loops, branches or functions of TensorFlow"):
        rb.plan(model, (X, Y), 10, methods=["sgd"])


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"model": build(compiled=False)}, ValueError, "is not compiled"),
        ({"model": recurrent()}, ValueError, "has recurrent layers"),
        ({"model": 3}, TypeError, "must be a keras.Model"),
        ({"batch": X}, TypeError, r"batch is a ndarray; allowed: \(x, y\)"),
        ({"batch": (X,)}, ValueError, "batch has 1 parts"),
        ({"batch": (tf.TensorSpec([None, 64]), Y)}, ValueError, "shapes that are known"),
        ({"dimensions": 0}, ValueError, "dimensions=0 must be an int from 1 to"),
        ({"dimensions": SIZE + 1}, ValueError, f"from 1 to {SIZE}"),
        ({"rank": 0}, ValueError, "rank=0 must be an int of at least 1"),
        ({"methods": "sgd"}, TypeError, "methods='sgd' must be a list of names"),
        ({"methods": ["galore"]}, ValueError, r"methods\[0\]='galore' is unknown; allowed: 'sgd'"),
    ],
)
def test_what_is_not_allowed_is_named(change, error, sentence):
    arguments = {"model": build(), "batch": (X, Y), "dimensions": DIMENSIONS, **change}
    with pytest.raises(error, match=sentence):
        rb.plan(**arguments)


@pytest.mark.skipif(LORA, reason="Keras 3 has LoRA")
def test_lora_is_refused_where_keras_has_none():
    with pytest.raises(ValueError, match="no layer of the model has `enable_lora`"):
        rb.plan(build(), (X, Y), DIMENSIONS, methods=["lora"])
