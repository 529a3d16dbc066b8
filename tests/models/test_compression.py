"""Compressed files: small, exact, and refused when anything about them does not fit."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import random_bases as rb
from random_bases import bases
from random_bases.keras_api import keras, set_random_seed
from random_bases.models import compression
from random_bases.sampling import STREAM_VERSION
from tests import networks

ROOT = Path(__file__).resolve().parents[2]
IMAGES = np.random.RandomState(0).uniform(size=(16, 28, 28)).astype(np.float32)


def fc(seed=0):
    """784-128-10: 101,770 parameters."""
    set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def trained(name, epochs=1, **arguments):
    """(sub, inputs): a little trained."""
    model, x = networks.build(name)
    sub = rb.SubspaceModel(model, **{"dimensions": 5, "seed": 3, "basis": "rademacher", **arguments})
    sub.compile(keras.optimizers.SGD(0.3), keras.losses.MeanSquaredError(), run_eagerly=True)
    sub.fit(x, networks.targets(), batch_size=3, epochs=epochs, verbose=0)
    return sub, x


def values(model):
    return [np.array(v.numpy()) for v in model.weights]


def assert_same(arrays, others):
    assert len(arrays) == len(others)
    for array, other in zip(arrays, others):
        np.testing.assert_array_equal(array, other)


def load_in_a_new_process(path, outputs):
    """What the new process does."""
    keras.layers.Dense(1)  # another layer was made before: names are numbered differently
    np.save(outputs, rb.load_compressed(path, fc()).predict(IMAGES, verbose=0))


@pytest.mark.parametrize("basis", [pytest.param("normal", marks=pytest.mark.slow), "hadamard"])
def test_a_new_process_predicts_the_same_bits_from_a_hundredth_of_the_bytes(tmp_path, basis, caplog):
    sub = rb.SubspaceModel(fc(), dimensions=750, basis=basis, seed=11)
    sub.compile(keras.optimizers.Adam(0.1), keras.losses.SparseCategoricalCrossentropy())
    sub.fit(IMAGES, np.arange(16) % 10, epochs=2, verbose=0)
    path, outputs = str(tmp_path / "fc.rb"), str(tmp_path / "outputs.npy")
    with caplog.at_level(logging.INFO, "random_bases"):
        size = sub.export_compressed(path)
    weights = str(tmp_path / "fc.weights.h5")
    sub.model.save_weights(weights)
    assert size == os.path.getsize(path)
    assert os.path.getsize(weights) >= 100 * size
    assert f"{size} bytes" in caplog.text and str(4 * 101770) in caplog.text

    command = f"from tests.models.test_compression import *; load_in_a_new_process({path!r}, {outputs!r})"
    subprocess.run([sys.executable, "-c", command], check=True, cwd=str(ROOT), timeout=300)
    found = np.load(outputs)
    np.testing.assert_array_equal(found, sub.materialize().predict(IMAGES, verbose=0))
    np.testing.assert_allclose(found, sub.predict(IMAGES, verbose=0), atol=1e-5)
    assert np.abs(found - fc().predict(IMAGES, verbose=0)).max() > 0.01


@pytest.mark.parametrize("name", networks.EACH)
def test_weights_and_state_come_back(tmp_path, name):
    sub, x = trained(name)
    sub.export_compressed(str(tmp_path / "model.rb"))
    model, _ = networks.build(name)
    loaded = rb.load_compressed(str(tmp_path / "model.rb"), model)
    assert loaded is model
    expected = sub.materialize()
    assert_same(values(loaded), values(expected))
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(expected(x)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"compartments": [20, 37], "allocation": [2, 3], "basis": "hadamard"},
        {"compartments": "layer", "allocation": "proportional"},
        {"basis": bases.get("bernoulli", 57, 5, p=0.25), "seed": 2**63 + 5},
    ],
    ids=str,
)
def test_the_whole_configuration_is_kept(tmp_path, arguments):
    sub, _ = trained("sequential", **arguments)
    sub.export_compressed(str(tmp_path / "model.rb"))
    loaded = rb.load_compressed(str(tmp_path / "model.rb"), networks.build("sequential")[0])
    assert_same(values(loaded), values(sub.materialize()))


def test_what_is_frozen_is_known_by_the_file(tmp_path):
    sub, _ = trained("frozen")
    size = sub.export_compressed(str(tmp_path / "model.rb"))
    unfrozen, _ = networks.build("normalised")
    loaded = rb.load_compressed(str(tmp_path / "model.rb"), unfrozen)
    assert_same(values(loaded), values(sub.materialize()))
    # Frozen weights are part of theta0, not of the file.
    other, _ = networks.build("normalised")
    kernel = other.layers[1].kernel
    kernel.assign(kernel.numpy() + 1)
    with pytest.raises(compression.InitialWeightsError):
        rb.load_compressed(str(tmp_path / "model.rb"), other)
    assert size < 700


def header_of(content):
    inflater = zlib.decompressobj(zdict=compression._DICTIONARY)
    return json.loads(inflater.decompress(content[12 : 12 + int.from_bytes(content[8:12], "little")]))


def test_the_file_is_what_it_is_said_to_be(tmp_path):
    sub, _ = trained("normalised")
    path = tmp_path / "model.rb"
    sub.export_compressed(str(path))
    content = path.read_bytes()
    assert content[:8] == b"RNDBASES"
    length = int.from_bytes(content[8:12], "little")
    header = header_of(content)
    assert header["stream_version"] == STREAM_VERSION == 1
    assert header["seed"] == 3
    arrays = np.frombuffer(content[12 + length : -32], np.float32)
    np.testing.assert_array_equal(arrays[:5], sub.coordinates.numpy())
    state = sub.model.layers[2].moving_mean.numpy(), sub.model.layers[2].moving_variance.numpy()
    np.testing.assert_array_equal(arrays[5:], np.concatenate(state))
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()


@pytest.mark.parametrize("suffix", [".rb", ".safetensors"])
@pytest.mark.parametrize(("bits", "levels"), [(8, 127), (4, 7)])
def test_coordinates_of_few_bits_are_multiples_of_a_step(tmp_path, bits, levels, suffix):
    model, _ = networks.build("normalised")
    sub = rb.SubspaceModel(model, dimensions=10, basis="hadamard", seed=3)
    c = np.random.RandomState(0).normal(size=10).astype(np.float32)
    sub.coordinates.assign(c)
    path = str(tmp_path / f"model{suffix}")
    sub.export_compressed(path, bits=bits)
    loaded = rb.load_compressed(path, networks.build("normalised")[0])
    step = np.abs(c).max() / levels
    sub.coordinates.assign(np.rint(c / step) * step)
    for found, expected in zip(values(loaded), values(sub.materialize())):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(sub.coordinates.numpy() - c).max() <= step / 2 * 1.001
    sub.coordinates.assign(np.zeros(10))
    sub.export_compressed(path, bits=bits)
    loaded = rb.load_compressed(path, networks.build("normalised")[0])
    for found, expected in zip(values(loaded), values(sub.materialize())):
        np.testing.assert_array_equal(found, expected)


def test_few_bits_are_coded_near_their_entropy():
    c = np.random.RandomState(0).normal(size=20_000).astype(np.float32)
    for bits in (8, 4):
        _, integers = compression._quantized(c, bits)
        _, counts = np.unique(integers, return_counts=True)
        entropy = -np.sum(counts * np.log2(counts / len(c))) / 8
        coded = compression._coded(integers)
        assert entropy <= len(coded) <= 1.03 * entropy + 150
        assert compression._decoded(coded + b"rest", len(c)) == integers.tobytes() + b"rest"


def test_forged_codes_of_coordinates_are_refused(tmp_path):
    model, _ = networks.build("sequential")
    path = tmp_path / "model.rb"
    rb.SubspaceModel(model, dimensions=5, basis="rademacher", seed=3).export_compressed(str(path), bits=8)
    content = path.read_bytes()
    end = 12 + int.from_bytes(content[8:12], "little")
    for data in (b"", b"\x01", (9).to_bytes(4, "little") + b"123", (2).to_bytes(4, "little") + b"\xff\xff"):
        path.write_bytes(content[:end] + data + hashlib.sha256(content[:end] + data).digest())
        refused(path, compression.DamagedFileError, "path='.*model.rb'")
    with_header(exported_of(content, path), path, scale=-1.0)
    refused(path, compression.DamagedFileError, "path='.*model.rb'.*scale=-1.0")


def exported_of(content, path):
    path.write_bytes(content)
    return path


def test_other_numbers_of_bits_are_refused(tmp_path):
    sub = rb.SubspaceModel(networks.build("sequential")[0], dimensions=5, basis="rademacher", seed=3)
    for bits, error in ((5, ValueError), (64, ValueError), (8.0, TypeError)):
        with pytest.raises(error, match=f"bits={bits}"):
            sub.export_compressed(str(tmp_path / "model.rb"), bits=bits)
    sub.coordinates.assign(np.full(5, np.nan))
    with pytest.raises(ValueError, match="coordinates are not finite; allowed with bits=8"):
        sub.export_compressed(str(tmp_path / "model.rb"), bits=8)
    assert not list(tmp_path.iterdir())


# --- What is refused ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.rb"
    trained("sequential")[0].export_compressed(str(path))
    return path


def refused(path, error, message, model=None):
    model = networks.build("sequential")[0] if model is None else model
    before = values(model)
    with pytest.raises(error, match=message) as raised:
        rb.load_compressed(str(path), model)
    assert isinstance(raised.value, compression.CompressedFileError)
    assert_same(values(model), before)


def test_truncated_files(exported, tmp_path):
    content = exported.read_bytes()
    path = tmp_path / "short.rb"
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        refused(path, compression.DamagedFileError, "path=.*short.rb")
    path.write_bytes(content[:-1])
    refused(path, compression.DamagedFileError, "truncated or was altered")
    path.write_bytes(content + b"\0")
    refused(path, compression.DamagedFileError, "truncated or was altered")


def test_altered_files(exported, tmp_path):
    content = exported.read_bytes()
    path = tmp_path / "altered.rb"
    for position in range(0, len(content), 37):
        altered = bytearray(content)
        altered[position] ^= 1
        path.write_bytes(bytes(altered))
        refused(path, compression.DamagedFileError, "path=.*altered.rb")


def with_encoded(path, to, encoded):
    """Writes a valid file with other bytes for a header."""
    content = path.read_bytes()
    end = 12 + int.from_bytes(content[8:12], "little")
    content = content[:8] + len(encoded).to_bytes(4, "little") + encoded + content[end:-32]
    to.write_bytes(content + hashlib.sha256(content).digest())
    return to


def with_header(path, to, encode=compression._deflated, **changes):
    """Writes a valid file with another header."""
    header = {**header_of(path.read_bytes()), **changes}
    return with_encoded(path, to, encode(json.dumps(header).encode()))


@pytest.mark.parametrize(("name", "known"), [("stream_version", "1"), ("format_version", "1 and 2")])
def test_other_versions(exported, tmp_path, name, known):
    path = with_header(exported, tmp_path / "other.rb", **{name: 3})
    refused(path, compression.StreamVersionError, f"{name}=3; this random_bases reads {known} only")


def test_files_of_the_first_format_are_read(exported, tmp_path):
    path = with_header(exported, tmp_path / "first.rb", encode=lambda header: header, format_version=1)
    loaded, expected = (
        rb.load_compressed(str(each), networks.build("sequential")[0]) for each in (path, exported)
    )
    assert_same(values(loaded), values(expected))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"no header", "cannot be inflated"),
        (compression._deflated(b"{}")[:-1], "cut off"),
        (compression._deflated(b" " * (compression._LONGEST_HEADER + 1)), "has more than"),
    ],
    ids=["other bytes", "cut off", "too long"],
)
def test_headers_that_cannot_be_inflated(exported, tmp_path, encoded, message):
    path = with_encoded(exported, tmp_path / "forged.rb", encoded)
    refused(path, compression.DamagedFileError, f"path='.*forged.rb'.*{message}")


VALUES = (None, -1, "x", [], {}, [-1], 2**70)


def test_forged_headers_are_refused_by_name(exported, tmp_path):
    """Without a name, with values of any shape: an error of ours that names the file."""
    header = header_of(exported.read_bytes())
    names = [name for name in header if name != "adapted"]  # which this model has nothing of
    forgeries = [{k: v for k, v in header.items() if k != name} for name in names]
    forgeries += [{**header, name: value} for name in names for value in VALUES if header[name] != value]
    forgeries += [value for value in VALUES if not isinstance(value, dict)]
    path = tmp_path / "forged.rb"
    for forged in forgeries:
        with_encoded(exported, path, compression._deflated(json.dumps(forged).encode()))
        refused(path, compression.CompressedFileError, "path='.*forged.rb'")


def test_other_architectures(exported):
    for layers in ([6, 4], [6], [6, 3, 3]):
        model = keras.Sequential([keras.Input((5,)), *(keras.layers.Dense(units) for units in layers)])
        refused(exported, compression.ArchitectureError, r"needs \['float32\[5,6\]'", model)


def test_other_layers_for_the_compartments(exported, tmp_path):
    path = with_header(exported, tmp_path / "other.rb", compartment_sizes=[30, 27])
    refused(path, compression.ArchitectureError, "compartments of .57. parameters")


def test_other_initial_weights(exported):
    refused(exported, compression.InitialWeightsError, "same seed", networks.build("sequential", seed=1)[0])
    model, _ = networks.build("sequential")
    bias = model.trainable_variables[-1]
    bias.assign(np.nextafter(bias.numpy(), np.float32(1)))  # the least that can differ
    refused(exported, compression.InitialWeightsError, "same seed", model)
    model, _ = networks.build("sequential")
    rb.load_compressed(str(exported), model)
    refused(exported, compression.InitialWeightsError, "do not train it before", model)


def test_models_that_are_none(exported):
    with pytest.raises(TypeError, match="model=.*must be a keras.Model"):
        rb.load_compressed(str(exported), keras.layers.Dense(2))
    with pytest.raises(ValueError, match="model='unbuilt' is not built"):
        rb.load_compressed(str(exported), keras.Sequential([keras.layers.Dense(2)], name="unbuilt"))
    with pytest.raises(FileNotFoundError):
        rb.load_compressed(str(exported) + "x", networks.build("sequential")[0])


def test_samples_that_depend_on_the_device_are_not_exported(tmp_path):
    sub = rb.SubspaceModel(networks.build("sequential")[0], 5, bases.get("normal", 57, 5, generator="native"))
    with pytest.raises(ValueError, match="generator='native'"):
        sub.export_compressed(str(tmp_path / "model.rb"))


def test_a_failed_export_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    sub, _ = trained("sequential")
    path = tmp_path / "model.rb"
    sub.export_compressed(str(path))
    before = path.read_bytes()
    sub.coordinates.assign(np.ones(5))

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            sub.export_compressed(str(path))
    assert path.read_bytes() == before
    assert os.listdir(str(tmp_path)) == ["model.rb"]
    sub.export_compressed(str(path))
    assert path.read_bytes() != before
