import pytest

from experiments import results
from random_bases.keras_api import GENERATION

if GENERATION != "keras3":
    pytest.skip("LoRA is Keras 3's", allow_module_level=True)

from experiments.examples import keras_hub_backbone


@pytest.mark.slow
def test_the_example(tmp_path):
    pytest.importorskip("keras_hub", reason="pip install '.[examples]'")
    assert keras_hub_backbone.main([f"--workdir={tmp_path}"]) == 0
    found = results.read_json(tmp_path / "keras_hub_backbone.json")
    for task, size in found["vector_bytes"].items():
        assert size == (tmp_path / f"{task}.rb").stat().st_size <= 1.1 * 4 * 200 + 300
        assert size < found["lora_bytes"] / 10 < found["model_bytes"] / 50
        (other,) = {*found["vector_bytes"]} - {task}
        accuracy = found["accuracy"]
        assert accuracy[task][task] > max(0.75, accuracy["base"][task] + 0.15, accuracy[other][task] + 0.15)
    assert found["difference"] < 1e-5
    assert found["swap_seconds"] <= found["step_seconds"]
