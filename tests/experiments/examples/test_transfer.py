import numpy as np
import pytest

from experiments import results
from random_bases.keras_api import GENERATION, keras
from tests.experiments.test_datasets import real_data

if GENERATION != "keras3":
    pytest.skip("LoRA is Keras 3's", allow_module_level=True)

from experiments.examples import transfer


def test_patches_are_of_neighbours():
    # The first token of the dense layer's input is the image's upper left patch.
    model = transfer.build()
    patches = keras.Model(model.input, model.get_layer("patches").input)
    image = np.arange(28 * 28, dtype=np.float32).reshape(1, 28, 28, 1)
    np.testing.assert_array_equal(patches(image)[0, 0], image[0, :7, :7].ravel())
    np.testing.assert_array_equal(patches(image)[0, 6], image[0, 7:14, 14:21].ravel())


@pytest.mark.slow
def test_the_example(tmp_path):
    """The claims of its docstring."""
    for name in ("fashion_mnist", "mnist"):
        if not (real_data() / f"{name}.npz").exists():
            pytest.skip(f"no {name}.npz in {real_data()}; RANDOM_BASES_DATA names its directory")
    assert transfer.main([f"--workdir={tmp_path}", f"--data_dir={real_data()}"]) == 0
    found = {each["method"]: each for each in results.read_json(tmp_path / "transfer.json")["results"]}
    assert list(found) == list(transfer.METHODS)
    lora, vector, factored = (found[name] for name in ("LoRA", "one vector over LoRA", "factored, fixed"))
    assert factored["trained"] == lora["trained"] and factored["bytes"] < lora["bytes"]
    assert factored["accuracy"] > lora["accuracy"] - 0.015  # no worse, with a standard error of 0.004 each
    assert vector["bytes"] <= 1.1 * 4 * 1000 + 300 and vector["accuracy"] > 0.6
    assert found["all weights"]["accuracy"] > lora["accuracy"] > found["last layer"]["accuracy"]
