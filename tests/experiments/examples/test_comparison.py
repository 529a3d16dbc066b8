import os

import numpy as np
import pytest

import random_bases as rb
from experiments import results
from experiments.examples import comparison
from random_bases.keras_api import GENERATION, keras, set_random_seed

LORA = pytest.mark.skipif(GENERATION != "keras3", reason="LoRA is Keras 3's")


def build_model():
    set_random_seed(0)
    dense = [keras.layers.Dense(5, activation="relu", name="dense"), keras.layers.Dense(3, name="head")]
    return keras.Sequential([keras.Input((4,)), *dense])


@pytest.mark.skipif(GENERATION == "keras3", reason="Keras 3 has LoRA")
def test_a_keras_without_lora_is_refused_by_name():
    with pytest.raises(ValueError, match=f"keras='{keras.__version__}' has no enable_lora; allowed: Keras 3"):
        comparison.require_lora()


@LORA
def test_only_lora_and_what_is_named_train():
    comparison.require_lora()
    model = build_model()
    comparison.enable_lora(model, 2, [model.get_layer("head")])
    names = sorted("/".join(variable.path.split("/")[-2:]) for variable in model.trainable_variables)
    assert names == ["dense/lora_kernel_a", "dense/lora_kernel_b", "head/bias", "head/kernel"]
    assert comparison.size(model.trainable_variables) == 2 * (4 + 5) + 5 * 3 + 3
    assert not model.get_layer("head").lora_enabled


def test_the_file_is_of_what_fine_tuning_adds(tmp_path):
    model = build_model()
    model.layers[0].trainable = False
    whole = comparison.saved(tmp_path / "whole", model)
    assert whole == (tmp_path / "whole.safetensors").stat().st_size > 4 * (5 * 3 + 3)
    assert whole < 4 * (5 * 3 + 3) + 300  # and not the frozen layer
    sub = rb.SubspaceModel(build_model(), 40, basis="hadamard", seed=0)
    size = comparison.saved(tmp_path / "few", sub)
    assert size == (tmp_path / "few.rb").stat().st_size > 4 * 40
    assert comparison.saved(tmp_path / "four", sub, bits=4) < size - 100


def test_a_function_runs_in_a_process_of_its_own():
    assert comparison.in_own_process(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        comparison.in_own_process(int, "x")


def test_a_training_is_measured(tmp_path):
    model = build_model()
    model.compile("sgd", "mse")
    x, y = np.ones([64, 4], np.float32), np.ones([64, 3], np.float32)
    model.fit(x, y, epochs=1, verbose=0)
    costs = comparison.measured(lambda callbacks: model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks))
    assert 0 < costs["cpu_seconds_per_epoch"] < costs["cpu_seconds"]
    assert costs["seconds"] > 0
    held = []

    def allocate(callbacks):
        model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
        held.append(np.ones(2**24, np.float32))  # 64 MB
        held.clear()

    assert 55 < comparison.measured(allocate)["megabytes"]


def test_what_is_written(tmp_path, capsys):
    trained = {"cpu_seconds": 9.0, "cpu_seconds_per_epoch": 1.25, "megabytes": 33.3}
    found = [
        {"method": "as it was", "trained": 0, "bytes": None, "accuracy": 0.5},
        {"method": "LoRA", "trained": 1234, "bytes": 5678, "accuracy": 0.75, **trained},
    ]
    comparison.write(tmp_path / "new", "it", "A title", found, ["accuracy"], {"epochs": 2})
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in rows[0]] == [
        "method", "trained numbers", "accuracy", "CPU s an epoch", "peak MB", "file, bytes"
    ]  # fmt: skip
    assert [cell.strip() for cell in rows[2]] == ["as it was", "0", "50.0%", "-", "-", "-"]
    assert [cell.strip() for cell in rows[3]] == ["LoRA", "1,234", "75.0%", "1.2", "33", "5,678"]
    content = results.read_json(tmp_path / "new" / "it.json")
    assert content["results"] == found and content["settings"] == {"epochs": 2}
    assert (tmp_path / "new" / "it.png").read_bytes().startswith(b"\x89PNG")
