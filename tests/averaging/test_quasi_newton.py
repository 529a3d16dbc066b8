import numpy as np
import pytest

import random_bases as rb
from random_bases import averaging
from random_bases.keras_api import compile_model, keras, set_random_seed

CROSSENTROPY = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    "loss", [CROSSENTROPY, keras.losses.SparseCategoricalCrossentropy()], ids=["name", "loss"]
)
def test_the_minimum_of_a_masked_model_is_what_evaluate_reports(loss):
    set_random_seed(0)
    layers = [
        keras.Input((7,)),
        keras.layers.Embedding(5, 4, mask_zero=True),
        keras.layers.Dense(3, "softmax"),
    ]
    model = rb.SubspaceModel(keras.Sequential(layers), 3)
    compile_model(model, jit_compile=False, optimizer="sgd", loss=loss)
    rng = np.random.RandomState(0)
    x = rng.randint(1, 5, (6, 7)) * (np.arange(7) < np.arange(1, 7)[:, np.newaxis])
    y = rng.randint(0, 3, (6, 7))
    result = averaging.minimize(model, [(x, y)], loss, iterations=np.int64(2))
    np.testing.assert_allclose(result.fun, model.evaluate(x, y, verbose=0), rtol=1e-5)
    with pytest.raises(TypeError, match="iterations=True must be an int"):
        averaging.minimize(model, [(x, y)], loss, iterations=True)
