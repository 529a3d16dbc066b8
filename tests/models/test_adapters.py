"""Adapters: low-rank factors over a base, quantised or not, as one vector; many over one base."""

import os
import time

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, keras, set_random_seed
from random_bases.models import compression
from tests import networks
from tests.test_wild_models import compiled

layers = keras.layers
needs_lora = pytest.mark.skipif(GENERATION != "keras3", reason="of Keras 3")
IDS = np.random.RandomState(0).randint(0, 11, (16, 6))
LABELS = np.arange(16) % 3


def base_model(quantized=None, seed=0):
    """LoRA on an Embedding, attention's EinsumDense layers and a Dense; all else is frozen."""
    set_random_seed(seed)
    ids = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 8)(ids)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.EinsumDense("btd,de->bte", output_shape=(None, 8), bias_axes="e")(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(ids, x)
    for layer in model._flatten_layers():
        if isinstance(layer, (layers.Embedding, layers.EinsumDense, layers.Dense)):
            if quantized == "float8":  # which Keras cannot have LoRA on
                layer.quantize("float8") if isinstance(layer, layers.Dense) else layer.enable_lora(2)
            else:
                layer.enable_lora(2)
                if quantized:
                    layer.quantize(quantized)
    for variable in model.trainable_variables:
        variable.trainable = "lora" in variable.name
    return model


def fine_tuned(model, path, labels=LABELS, **arguments):
    """(SubspaceModel, size of its file)."""
    sub = rb.SubspaceModel(model, **{"dimensions": 20, "basis": "hadamard", "seed": 1, **arguments})
    compiled(sub, keras.optimizers.Adam(0.3)).fit(IDS, labels, epochs=8, verbose=0)
    return sub, sub.export_compressed(path)


def values(model):
    return [np.array(v.numpy()) for v in model.weights]


@needs_lora
@pytest.mark.parametrize("quantized", [None, "int8", "int4", "float8"])
def test_the_file_of_an_adapter_is_its_coordinates(quantized, tmp_path):
    path = str(tmp_path / "adapter.rb")
    sub, size = fine_tuned(base_model(quantized), path)
    assert size == os.path.getsize(path) <= 1.1 * 4 * 20 + 300
    before = base_model(quantized).predict(IDS, verbose=0)
    expected = sub.predict(IDS, verbose=0)
    loaded = rb.load_compressed(path, base_model(quantized))
    np.testing.assert_allclose(loaded.predict(IDS, verbose=0), expected, atol=1e-5)
    assert np.abs(expected - before).max() > 0.05
    for variable, found, start in zip(loaded.weights, values(loaded), values(base_model(quantized))):
        assert np.array_equal(found, start) == ("lora" not in variable.name)


@needs_lora
@pytest.mark.parametrize("quantized", [None, "int8"])
def test_another_frozen_base_is_refused(quantized, tmp_path):
    path = str(tmp_path / "adapter.rb")
    fine_tuned(base_model(quantized), path)
    other = base_model(quantized)
    frozen = next(v for v in other.weights if not v.trainable and "kernel" in v.name)
    changed = frozen.numpy()
    changed.flat[0] += 1
    frozen.assign(changed)
    before = values(other)
    with pytest.raises(compression.InitialWeightsError, match="adapter.rb"):
        rb.load_compressed(path, other)
    for found, expected in zip(values(other), before):
        np.testing.assert_array_equal(found, expected)


@needs_lora
def test_adapters_are_swapped_and_merged_over_one_base(tmp_path):
    paths = {name: str(tmp_path / f"{name}.rb") for name in ("one", "two")}
    expected = {}
    for index, (name, path) in enumerate(paths.items()):
        fine_tuned(base_model("int8"), path, np.roll(LABELS, index), seed=index)
        expected[name] = values(rb.load_compressed(path, base_model("int8")))
    model = base_model("int8")
    base = values(model)
    adapters = rb.Adapters(model)
    adapters.load("one", paths["one"])
    adapters.use("one")
    adapters.load("two", paths["two"])  # whose base is not what is in the weights now
    assert (adapters.names, adapters.used) == (["one", "two"], {"one": 1.0})
    for use, found in (("two", expected["two"]), ("one", expected["one"]), (None, base)):
        adapters.use(use)
        for weight, other in zip(values(model), found):
            np.testing.assert_array_equal(weight, other)
    adapters.use({"one": 0.5, "two": 2.0})
    for weight, start, one, two in zip(values(model), base, expected["one"], expected["two"]):
        if start.dtype == np.float32:
            merged = start + 0.5 * (one - start) + 2 * (two - start)
            np.testing.assert_allclose(weight, merged, atol=1e-5)
    with pytest.raises(ValueError, match="name='one' must be one that is not in use"):
        adapters.load("one", paths["two"])
    for use, error, message in (
        ("three", ValueError, "adapters='three' is unknown; allowed: 'one', 'two'"),
        ({"one": np.nan}, ValueError, r"adapters\['one'\]=nan must be finite"),
        (3, TypeError, "adapters=3 must be a name"),
    ):
        before = values(model)
        with pytest.raises(error, match=message):
            adapters.use(use)
        for weight, other in zip(values(model), before):
            np.testing.assert_array_equal(weight, other)


def files_of_normalised(tmp_path):
    """Two files of models with moving statistics, and what is in each of these."""
    found = []
    for seed in (0, 1):
        model, x = networks.build("normalised")
        sub = rb.SubspaceModel(model, dimensions=5, basis="rademacher", seed=seed)
        sub.compile(keras.optimizers.SGD(0.3), keras.losses.MeanSquaredError(), run_eagerly=True)
        sub.fit(x[: 3 * (seed + 1)], networks.targets()[: 3 * (seed + 1)], verbose=0)
        path = str(tmp_path / f"{seed}.rb")
        sub.export_compressed(path)
        found.append((path, values(sub.materialize())))
    return found


def test_moving_statistics_are_swapped_and_not_merged(tmp_path):
    files = files_of_normalised(tmp_path)
    model, _ = networks.build("normalised")
    base, adapters = values(model), rb.Adapters(model)
    for name, (path, _) in zip("ab", files):
        adapters.load(name, path)
    for use, expected in (("a", files[0][1]), ("b", files[1][1]), (None, base)):
        adapters.use(use)
        for weight, other in zip(values(model), expected):
            np.testing.assert_array_equal(weight, other)
    with pytest.raises(ValueError, match="cannot be merged: .*moving_mean.* is a state"):
        adapters.use({"a": 0.5, "b": 0.5})


def test_what_other_layers_learned_by_adapt_is_refused(tmp_path):
    def model(scale):
        set_random_seed(0)
        normalize = keras.layers.Normalization() if GENERATION != "keras2.6" else (
            keras.layers.experimental.preprocessing.Normalization()
        )  # fmt: skip
        normalize.adapt(scale * np.arange(12, dtype=np.float32).reshape(4, 3))
        return keras.Sequential([keras.Input((3,)), normalize, keras.layers.Dense(2)])

    path = str(tmp_path / "model.rb")
    rb.SubspaceModel(model(1), dimensions=2, seed=0).export_compressed(path)
    rb.Adapters(model(1)).load("same", path)
    with pytest.raises(ValueError, match="model.rb.*learned other things by `adapt`"):
        rb.Adapters(model(2)).load("other", path)


@needs_lora
@pytest.mark.slow
def test_a_swap_takes_less_than_a_step(tmp_path):
    path = str(tmp_path / "adapter.rb")
    sub, _ = fine_tuned(base_model(), path)
    adapters = rb.Adapters(base_model())
    adapters.load("it", path)
    batch = tf.constant(IDS), tf.constant(LABELS)
    times = {"swap": [], "step": []}
    for _ in range(20):
        for name, do in (("swap", lambda: adapters.use("it")), ("step", lambda: sub.train_on_batch(*batch))):
            start = time.perf_counter()
            do()
            times[name].append(time.perf_counter() - start)
    assert np.median(times["swap"][5:]) <= np.median(times["step"][5:])
