import numpy as np
import pytest
import tensorflow as tf

from random_bases.analysis.objective import Objective
from random_bases.keras_api import compile_model, keras
from tests import networks
from tests.analysis import quadratic


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_value_is_what_evaluate_reports(name):
    model, x = networks.build(name)
    y = networks.targets()
    compile_model(model, jit_compile=False, optimizer="sgd", loss="mse")
    expected = model.evaluate(x, y, batch_size=networks.BATCH, verbose=0)
    objective = Objective(model, (x, y))
    np.testing.assert_allclose(objective.value(objective.weights()), expected, rtol=1e-5)


CROSSENTROPY = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    "loss", [CROSSENTROPY, keras.losses.SparseCategoricalCrossentropy()], ids=["name", "loss"]
)
def test_padding_counts_as_little_as_for_evaluate(loss):
    model, x, y = networks.masked()
    compile_model(model, jit_compile=False, optimizer="sgd", loss=loss)
    objective = Objective(model, (x, y))
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(objective.value(objective.weights()), expected, rtol=1e-5)
    others = np.where(x == 0, (y + 1) % 3, y)  # where the padding is
    for a, b in zip(objective.gradient(), Objective(model, (x, others)).gradient()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_gradient_of_a_quadratic():
    model = quadratic.model()
    (gradient,) = Objective(model, quadratic.DATA, quadratic.loss).gradient()
    np.testing.assert_allclose(gradient[:, 0], quadratic.HESSIAN @ quadratic.weight(model), rtol=1e-4)


def test_batches_count_by_their_sizes():
    model, x = networks.build("sequential")
    y = networks.targets()
    whole = Objective(model, (x, y), "mse")
    uneven = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    parts = Objective(model, uneven, "mse")
    assert [len(batch) for batch, _ in uneven] == [4, 2]
    np.testing.assert_allclose(parts.value(whole.weights()), whole.value(whole.weights()), rtol=1e-6)
    for a, b in zip(parts.gradient(), whole.gradient()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_present_weights_are_used_after_they_change():
    model = quadratic.model()
    objective = Objective(model, quadratic.DATA, quadratic.loss)
    objective.gradient()
    model.set_weights([np.ones([6, 1], np.float32)])
    np.testing.assert_allclose(objective.gradient()[0][:, 0], quadratic.HESSIAN.sum(1), rtol=1e-4, atol=1e-6)


def test_what_is_refused():
    model = quadratic.model()
    x, y = quadratic.DATA
    with pytest.raises(TypeError, match="model=3"):
        Objective(3, (x, y))
    with pytest.raises(TypeError, match="loss=None"):
        Objective(model, (x, y))
    with pytest.raises(TypeError, match="loss="):
        Objective(model, (x, y), ["mse", "mse"])
    with pytest.raises(ValueError, match="is not built"):
        Objective(keras.Sequential([keras.layers.Dense(1)]), (x, y), "mse")
    with pytest.raises(TypeError, match="data=None must be"):
        Objective(model, None, "mse").gradient()
    with pytest.raises(TypeError, match="direction=None must be"):
        Objective(model, (x, y), "mse").checked("direction", None)
    with pytest.raises(ValueError, match="data has no examples"):
        Objective(model, [], "mse").gradient()
    with pytest.raises(ValueError, match="pair"):
        Objective(model, x, "mse").gradient()


def test_recomputed_parts_have_values_but_no_gradient():
    model, x = networks.build("rematerialised")
    y = networks.targets()
    objective = Objective(model, (x, y), "mse")
    expected = np.mean((np.asarray(model(x)) - y) ** 2)
    np.testing.assert_allclose(objective.value(objective.weights()), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="in a function with a gradient of its own"):
        objective.gradient()
