import numpy as np
import pytest

import random_bases as rb
from random_bases import averaging
from random_bases.keras_api import compile_model, keras
from tests import networks

CROSSENTROPY = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    "loss", [CROSSENTROPY, keras.losses.SparseCategoricalCrossentropy()], ids=["name", "loss"]
)
def test_the_minimum_of_a_masked_model_is_what_evaluate_reports(loss):
    model, x, y = networks.masked()
    model = rb.SubspaceModel(model, 3, seed=0)
    compile_model(model, jit_compile=False, optimizer="sgd", loss=loss)
    result = averaging.minimize(model, [(x, y)], loss, iterations=np.int64(2))
    np.testing.assert_allclose(result.fun, model.evaluate(x, y, verbose=0), rtol=1e-5)
    with pytest.raises(TypeError, match="iterations=True must be an int"):
        averaging.minimize(model, [(x, y)], loss, iterations=True)
