"""Weights and adapters as safetensors: they come back, and what does not fit is refused by name."""

import numpy as np
import pytest

import random_bases as rb
from random_bases import safetensors
from random_bases.keras_api import keras, path_of
from random_bases.models import compression
from tests import networks


def values(model):
    return [np.array(v.numpy()) for v in model.weights]


def assert_same(model, arrays):
    for found, expected in zip(values(model), arrays):
        np.testing.assert_array_equal(found, expected)


def dense(units=4, seed=0):
    networks.set_random_seed(seed)
    layers = [keras.layers.Dense(3, name="a"), keras.layers.BatchNormalization(name="b")]
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(units, name="c")], name="net")


def test_weights_come_back_by_their_names(tmp_path):
    path, model = tmp_path / "net.safetensors", dense()
    model.weights[-3].assign(np.full(3, 7.0))  # of no initialisation
    assert rb.save_safetensors(path, model) == path.stat().st_size
    arrays, _ = safetensors.read(path)
    assert set(arrays) == {path_of(v) for v in model.weights}
    other = dense(seed=1)
    assert rb.load_safetensors(path, other) is other
    assert_same(other, values(model))


def test_names_are_those_of_another_library(tmp_path):
    def theirs(path):
        return "model." + path.split("/", path.count("/") - 1)[-1].replace("/", ".")

    path, model = tmp_path / "net.safetensors", dense()
    rb.save_safetensors(path, model, names=theirs)
    assert "model.a.kernel" in safetensors.read(path)[0]
    assert_same(rb.load_safetensors(path, dense(seed=1), names=theirs), values(model))
    with pytest.raises(safetensors.SafetensorsError, match=r"lacks \['.*a/kernel'.*and has \['model.a.bias'"):
        rb.load_safetensors(path, dense())
    with pytest.raises(ValueError, match="model='net' has two weights named 'x'"):
        rb.save_safetensors(path, model, names=lambda _: "x")


def test_weights_of_another_shape_are_refused(tmp_path):
    path, other = tmp_path / "net.safetensors", dense(units=5, seed=1)
    rb.save_safetensors(path, dense())
    before = values(other)
    with pytest.raises(
        safetensors.SafetensorsError, match=r"c/.*float32\[.*4\]; model='net': float32\[.*5\]"
    ):
        rb.load_safetensors(path, other)
    assert_same(other, before)


def test_adapters_are_the_same_in_either_format(tmp_path):
    model, _ = networks.build("normalised")
    sub = rb.SubspaceModel(model, dimensions=5, basis="rademacher", seed=3)
    sub.coordinates.assign(np.arange(5, dtype=np.float32))
    paths = [str(tmp_path / f"adapter.{suffix}") for suffix in ("rb", "safetensors")]
    loaded = []
    for path in paths:
        sub.export_compressed(path)
        loaded.append(rb.load_compressed(path, networks.build("normalised")[0]))
    assert_same(loaded[1], values(loaded[0]))
    np.testing.assert_array_equal(safetensors.read(paths[1])[0]["coordinates"], np.arange(5))
    content = bytearray((tmp_path / "adapter.safetensors").read_bytes())
    for position in (-1, content.index(b'\\"seed\\":3') + 9):
        altered = bytes(content[:position]) + bytes([content[position] ^ 1]) + bytes(content[position:][1:])
        (tmp_path / "altered.safetensors").write_bytes(altered)
        with pytest.raises(compression.DamagedFileError, match="altered.safetensors"):
            rb.load_compressed(str(tmp_path / "altered.safetensors"), networks.build("normalised")[0])
