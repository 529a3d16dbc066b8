"""Data sets and their batches: splits, purity in (seed, step), augmentation, and damaged files."""

import itertools
import os
import pathlib
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from experiments import datasets, networks
from experiments.datasets import ImageSplit, Preprocessing
from random_bases.keras_api import keras, set_random_seed

MNIST_LIKE = Preprocessing(255, pad=3, brightness=0.5)
CIFAR_LIKE = Preprocessing(255, standardize=True, pad=4, flip=True)


def make_split(number, preprocessing, shape=(6, 5, 1)):
    """Random images whose labels are their numbers."""
    images = np.random.RandomState(0).randint(0, 256, (number, *shape)).astype(np.uint8)
    return ImageSplit(images, np.arange(number, dtype=np.int32), preprocessing)


def take(split, batch_size, num_steps, **kwargs):
    """The batches as NumPy arrays [num_steps, batch_size, ...]."""
    kwargs.setdefault("seed", 0)
    dataset = datasets.training_batches(split, batch_size, num_steps=num_steps, **kwargs)
    images, labels = zip(*dataset.as_numpy_iterator())
    return np.stack(images), np.stack(labels)


def standardized(images):
    """`tf.image.per_image_standardization` in float64: TensorFlow's documentation."""
    images = images.astype(np.float64)
    axes = (-3, -2, -1)
    deviation = np.maximum(images.std(axis=axes, keepdims=True), np.prod(images.shape[-3:]) ** -0.5)
    return (images - images.mean(axis=axes, keepdims=True)) / deviation


def every_crop(image, pad, flip):
    """(top, left, mirrored) and the crop, for all crops of a zero-padded image, scaled to 0..1."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="constant") / 255
    offsets = list(itertools.product(range(2 * pad + 1), range(2 * pad + 1), range(1 + flip)))
    crops = [padded[top : top + height, left : left + width] for top, left, _ in offsets]
    crops = [crop[:, ::-1] if mirror else crop for crop, (_, _, mirror) in zip(crops, offsets)]
    return np.array(offsets), np.stack(crops)


# --- batches: order and purity ---


@pytest.mark.parametrize("preprocessing", [MNIST_LIKE, CIFAR_LIKE])
def test_a_later_start_continues_exactly(preprocessing):
    split = make_split(103, preprocessing, shape=(6, 5, 3))  # 10 steps an epoch

    images, labels = take(split, 10, 35, seed=5)
    for start in (1, 9, 10, 11, 25, 30):
        later_images, later_labels = take(split, 10, 35 - start, seed=5, start_step=start)

        np.testing.assert_array_equal(later_labels, labels[start:])
        np.testing.assert_array_equal(later_images, images[start:])


def test_a_start_far_away():
    split = make_split(20, MNIST_LIKE)
    step = 10**12

    images, labels = take(split, 10, 3, start_step=step)
    later_images, later_labels = take(split, 10, 2, start_step=step + 1)

    np.testing.assert_array_equal(later_images, images[1:])
    np.testing.assert_array_equal(later_labels, labels[1:])


def test_batches_do_not_depend_on_global_state_or_on_the_iterator():
    split = make_split(50, CIFAR_LIKE)
    dataset = datasets.training_batches(split, 8, seed=1, num_steps=20)

    tf.random.set_seed(1)
    first = list(dataset.as_numpy_iterator())
    tf.random.set_seed(2)
    second = list(dataset.as_numpy_iterator())

    for (images, labels), (same_images, same_labels) in zip(first, second):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)


@pytest.mark.parametrize("number", [40, 43])
def test_an_epoch_shows_each_example_at_most_once(number):
    _, labels = take(make_split(number, MNIST_LIKE), 8, 15)  # 5 steps an epoch

    epochs = labels.reshape(3, 40)
    for epoch in epochs:
        assert len(set(epoch)) == 40
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_every_example_is_equally_likely_in_every_place():
    # 400 epochs of 2 steps of 5 of 10: binomial(400, 1/2), 5 standard deviations of 10 each.
    _, labels = take(make_split(10, Preprocessing(255)), 5, 800)

    in_first_half = np.bincount(labels[::2].ravel(), minlength=10)

    assert np.all(np.abs(in_first_half - 200) < 50)


def test_the_order_does_not_depend_on_augmentation():
    split = make_split(50, MNIST_LIKE)

    images, labels = take(split, 8, 12)
    plain_images, plain_labels = take(split, 8, 12, augment=False)

    np.testing.assert_array_equal(labels, plain_labels)
    np.testing.assert_array_equal(plain_images, (split.images / np.float32(255))[plain_labels])
    assert not np.array_equal(images, plain_images)


def test_seeds_and_epochs_share_no_order_and_no_augmentation():
    split = make_split(64, MNIST_LIKE)
    seeds = (0, 1, 2, 3, 4, 2**31 - 1)
    runs = [take(split, 64, 8, seed=seed) for seed in seeds]

    orders = {tuple(order) for _, labels in runs for order in labels}
    # The last pixel of a batch's last image has its brightness, and so a value of its own.
    last_values = {float(batch[-1, -1, -1, -1]) for images, _ in runs for batch in images}

    assert len(orders) == len(last_values) == len(seeds) * 8


def test_shapes_are_static_and_the_number_of_batches_known():
    split = make_split(43, MNIST_LIKE)
    shapes = [(8, 6, 5, 1), (8,)]

    finite = datasets.training_batches(split, 8, seed=0, num_steps=7)
    endless = datasets.training_batches(split, 8, seed=0)

    for dataset in (finite, endless):
        assert [tuple(spec.shape) for spec in dataset.element_spec] == shapes
        assert [spec.dtype for spec in dataset.element_spec] == [tf.float32, tf.int32]
    assert int(finite.cardinality()) == 7 == len(list(finite))
    assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
    assert int(datasets.training_batches(split, 8, 0, num_steps=0).cardinality()) == 0


def test_steps_per_epoch():
    split = make_split(43, MNIST_LIKE)

    assert [datasets.steps_per_epoch(split, size) for size in (1, 8, 43)] == [43, 5, 1]


@pytest.mark.parametrize("batch_size", [0, -1, 44, 8.0, True])
def test_impossible_batch_size(batch_size):
    split = make_split(43, MNIST_LIKE)

    for function in (datasets.steps_per_epoch, lambda *args: datasets.training_batches(*args, 0)):
        with pytest.raises(ValueError, match=f"batch_size={batch_size}.*from 1 to 43"):
            function(split, batch_size)
    if batch_size != 44:
        with pytest.raises(ValueError, match=f"batch_size={batch_size}.*at least 1"):
            datasets.evaluation_batches(split, batch_size)


@pytest.mark.parametrize(
    "argument, value, allowed",
    [
        ("seed", -1, "from 0 to 2147483647"),
        ("seed", 2**31, "from 0 to 2147483647"),
        ("seed", None, "from 0 to 2147483647"),
        ("seed", 0.0, "from 0 to 2147483647"),
        ("start_step", -1, "at least 0"),
        ("num_steps", -1, "at least 0"),
        ("num_steps", 1.5, "at least 0"),
    ],
)
def test_impossible_arguments(argument, value, allowed):
    kwargs = {"seed": 0, argument: value}
    with pytest.raises(ValueError, match=f"{argument}={value}.*{allowed}"):
        datasets.training_batches(make_split(43, MNIST_LIKE), 8, **kwargs)


# --- batches: augmentation and preprocessing ---


@pytest.fixture(scope="module")
def brightened():
    """Offsets [M, 3] and brightness [M] of MNIST-like batches, found by trying every crop."""
    split = make_split(50, MNIST_LIKE, shape=(9, 7, 1))
    crops = [every_crop(image, 3, flip=False) for image in split.images]
    images, labels = take(split, 50, 100)
    offsets, brightness = [], []
    for image, label in zip(images.reshape(-1, 9, 7, 1), labels.ravel()):
        places, candidates = crops[label]
        difference = image - candidates
        spread = np.ptp(difference, axis=(1, 2, 3))
        (match,) = np.flatnonzero(spread < 1e-5)
        offsets.append(places[match])
        brightness.append(difference[match].mean())
    return np.array(offsets), np.array(brightness)


def test_mnist_images_are_crops_of_the_padded_image_and_a_constant(brightened):
    # The fixture has found each image among the crops that NumPy makes, and only once.
    offsets, brightness = brightened

    # 5,000 draws over 7 x 7 places: 102 each, standard deviation 10.
    counts = np.bincount(offsets[:, 0] * 7 + offsets[:, 1], minlength=49)
    assert len(counts) == 49
    assert np.all(np.abs(counts - 102) < 51)
    # Uniform over [-1/2, 1/2): the mean's standard deviation is 0.0041.
    assert -0.5 <= brightness.min() < -0.49 and 0.49 < brightness.max() < 0.5 + 1e-6
    assert abs(brightness.mean()) < 0.021
    assert brightness.std() == pytest.approx(12**-0.5, rel=0.05)


def test_crops_and_brightness_are_independent(brightened):
    offsets, brightness = brightened

    columns = np.column_stack([offsets[:, :2], brightness, np.tile(np.arange(50), 100)])
    correlation = np.corrcoef(columns, rowvar=False)

    assert np.abs(correlation - np.eye(4)).max() < 5 * len(brightness) ** -0.5


def test_brightness_is_not_clipped():
    white = ImageSplit(
        np.full((32, 6, 5, 1), 255, np.uint8), np.zeros(32, np.int32), Preprocessing(255, brightness=0.5)
    )

    images, _ = take(white, 32, 4)

    assert images.max() > 1.4 and images.min() < 0.6


def test_cifar_images_are_standardized_crops_half_of_them_mirrored():
    split = make_split(40, CIFAR_LIKE, shape=(7, 8, 3))
    crops = [every_crop(image, 4, flip=True) for image in split.images]

    images, labels = take(split, 40, 50)

    offsets = []
    for image, label in zip(images.reshape(-1, 7, 8, 3), labels.ravel()):
        places, candidates = crops[label]
        distance = np.abs(standardized(candidates) - image).max(axis=(1, 2, 3))
        (match,) = np.flatnonzero(distance < 1e-5)
        offsets.append(places[match])
    top, left, mirrored = np.transpose(offsets)
    # 2,000 draws: 1,000 mirrored, standard deviation 22; 222 at each of 9 edges, 14.
    assert abs(mirrored.sum() - 1000) < 110
    for edges in (top, left):
        assert np.all(np.abs(np.bincount(edges, minlength=9) - 222) < 70)
    correlation = np.corrcoef([top, left, mirrored]) - np.eye(3)
    assert np.abs(correlation).max() < 5 * len(top) ** -0.5


@pytest.mark.parametrize("batch_size", [1, 8, 20, 21, 100])
@pytest.mark.parametrize("preprocessing", [MNIST_LIKE, CIFAR_LIKE, Preprocessing(16)])
def test_evaluation_shows_every_example_once_in_order(preprocessing, batch_size):
    split = make_split(21, preprocessing, shape=(6, 5, 3))
    expected = split.images / preprocessing.max_value
    if preprocessing.standardize:
        expected = standardized(expected)

    dataset = datasets.evaluation_batches(split, batch_size)
    images, labels = zip(*dataset.as_numpy_iterator())

    np.testing.assert_array_equal(np.concatenate(labels), split.labels)
    np.testing.assert_allclose(np.concatenate(images), expected, rtol=1e-5, atol=1e-6)
    assert int(dataset.cardinality()) == len(images) == -(-21 // batch_size)
    assert {len(batch) for batch in images[:-1]} <= {batch_size}
    assert [tuple(spec.shape) for spec in dataset.element_spec] == [(None, 6, 5, 3), (None,)]
    assert [spec.dtype for spec in dataset.element_spec] == [tf.float32, tf.int32]


def test_standardization_is_exact():
    # So the bits do not depend on how many cores share the sums.
    split = make_split(33, CIFAR_LIKE, shape=(32, 32, 3))
    values = split.images.reshape(33, -1).astype(np.int64)
    mean = values.sum(axis=1, keepdims=True) / 3072 / 256
    variance = (values**2).sum(axis=1, keepdims=True) / 3072 / 256**2 - mean**2
    scaled = (values / 256).astype(np.float32)
    expected = (scaled - mean.astype(np.float32)) / np.sqrt(variance).astype(np.float32)

    ((images, _),) = datasets.evaluation_batches(split, 33).as_numpy_iterator()

    np.testing.assert_array_equal(images.reshape(33, -1), expected)
    reference = tf.image.per_image_standardization(split.images / np.float32(255))
    np.testing.assert_allclose(images, reference, atol=2e-6)


def test_a_uniform_image_is_standardized_to_zeros():
    split = ImageSplit(np.full((4, 6, 5, 3), 7, np.uint8), np.zeros(4, np.int32), CIFAR_LIKE)

    (batch,) = datasets.evaluation_batches(split, 4)

    np.testing.assert_allclose(batch[0].numpy(), 0, atol=1e-5)


# --- digits ---


def test_digits_are_split_into_disjoint_parts_with_every_class():
    digits = datasets.load("digits")

    parts = [digits.train, digits.validation, digits.test]
    assert [len(part) for part in parts] == [1097, 350, 350]
    for part in parts:
        assert part.images.dtype == np.uint8 and part.images.shape[1:] == (8, 8, 1)
        assert part.labels.dtype == np.int32 and set(part.labels) == set(range(10))
        assert part.preprocessing == Preprocessing(16)
    assert digits.input_shape == (8, 8, 1) and digits.num_classes == 10
    assert max(part.images.max() for part in parts) == 16
    images = np.concatenate([part.images for part in parts])
    assert len({image.tobytes() for image in images}) == 1797


def test_digits_are_split_the_same_way_always():
    # A golden value, equal in every version of NumPy: results depend on the split.
    digits = datasets.load("digits")

    assert digits.validation.labels[:10].tolist() == [2, 0, 0, 7, 7, 4, 5, 3, 1, 8]
    again = datasets.load("digits")
    np.testing.assert_array_equal(digits.test.images, again.test.images)


def test_keras_learns_the_digits():
    set_random_seed(0)
    digits = datasets.load("digits")
    model = networks.get("fc", digits.input_shape)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.3), loss, metrics=["accuracy"])

    model.fit(
        datasets.training_batches(digits.train, 32, seed=0),
        steps_per_epoch=datasets.steps_per_epoch(digits.train, 32),
        epochs=5,
        shuffle=False,  # Keras 3 warns that it would be ignored
        validation_data=datasets.evaluation_batches(digits.validation, 100),
        verbose=0,
    )

    _, accuracy = model.evaluate(datasets.evaluation_batches(digits.test, 100), verbose=0)
    assert accuracy > 0.85


# --- archives ---


def mnist_arrays():
    """Arrays of MNIST's shapes, mostly zeros; an image's corner is its number mod 256 (251)."""
    x_train, x_test = np.zeros((60000, 28, 28), np.uint8), np.zeros((10000, 28, 28), np.uint8)
    x_train[:500] = np.random.RandomState(0).randint(0, 256, (500, 28, 28))
    x_train[:, 0, 0] = np.arange(60000) % 256
    x_test[:, 0, 0] = np.arange(10000) % 251
    y_train, y_test = (np.arange(len(x)).astype(np.uint8) % 10 for x in (x_train, x_test))
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.fixture(scope="module")
def mnist_archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mnist.npz"
    np.savez_compressed(str(path), **mnist_arrays())
    return path


def assert_refused(directory, *parts, name="mnist", error=ValueError):
    """Loading fails with an error that names the file, what is wrong, and both ways to get it."""
    with pytest.raises(error) as caught:
        datasets.load(name, directory)
    for part in (str(directory / f"{name}.npz"), f"keras.datasets.{name}", "--data_dir", *parts):
        assert part in str(caught.value)


def test_the_last_10000_training_examples_validate(mnist_archive):
    data = datasets.load("mnist", mnist_archive.parent)

    assert [len(data.train), len(data.validation), len(data.test)] == [50000, 10000, 10000]
    assert (data.name, data.num_classes, data.input_shape) == ("mnist", 10, (28, 28, 1))
    corners = [part.images[:, 0, 0, 0] for part in (data.train, data.validation, data.test)]
    np.testing.assert_array_equal(corners[0], np.arange(50000) % 256)
    np.testing.assert_array_equal(corners[1], np.arange(50000, 60000) % 256)
    np.testing.assert_array_equal(corners[2], np.arange(10000) % 251)
    np.testing.assert_array_equal(data.validation.labels, np.arange(50000, 60000) % 256 % 10)
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == np.int32
    assert data.train.preprocessing == MNIST_LIKE
    assert datasets.steps_per_epoch(data.train, 32) == 1562


def test_unknown_data_set():
    with pytest.raises(ValueError, match="name='svhn'.*digits, mnist, fashion_mnist, cifar10"):
        datasets.load("svhn")


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "nowhere", "does not exist", error=FileNotFoundError)


def test_lzma_archive(mnist_archive, tmp_path):
    with zipfile.ZipFile(str(mnist_archive)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(str(tmp_path / "mnist.npz"), "w") as archive:
        archive.writestr("x_train.npy", members.pop("x_train.npy"))  # LZMA would take seconds
        for name, content in members.items():
            archive.writestr(name, content, zipfile.ZIP_LZMA)

    data = datasets.load("mnist", tmp_path)

    np.testing.assert_array_equal(data.test.images[:, 0, 0, 0], np.arange(10000) % 251)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_truncated_archive(mnist_archive, tmp_path, keep):
    content = mnist_archive.read_bytes()
    (tmp_path / "mnist.npz").write_bytes(content[: int(keep * len(content))])

    assert_refused(tmp_path, "BadZipFile")


@pytest.mark.parametrize("part", [0.1, 0.2, 0.5])  # among the first, random images
def test_altered_archive(mnist_archive, tmp_path, part):
    content = bytearray(mnist_archive.read_bytes())
    content[int(part * len(content))] ^= 0x10
    (tmp_path / "mnist.npz").write_bytes(content)

    assert_refused(tmp_path, "cannot be read")


def test_a_small_archive_of_a_large_array_is_refused_before_it_is_unpacked(mnist_archive, tmp_path):
    with zipfile.ZipFile(str(mnist_archive)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["y_test.npy"] += bytes(60_000_000)
    path = tmp_path / "mnist.npz"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    size = len(members.pop("y_test.npy"))
    tracemalloc.start()
    try:
        assert_refused(tmp_path, f"y_test.npy has {size} bytes, unpacked; at most ")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        # A smaller number in its place is no help to whoever wants to fill the memory.
        content = path.read_bytes()
        assert content.count(size.to_bytes(4, "little")) == 2
        path.write_bytes(content.replace(size.to_bytes(4, "little"), (10_128).to_bytes(4, "little")))
        assert_refused(tmp_path, "y_test.npy")
        assert tracemalloc.get_traced_memory()[1] < 150_000_000  # the other arrays
    finally:
        tracemalloc.stop()


def test_one_altered_pixel(tmp_path):
    np.savez(str(tmp_path / "mnist.npz"), **mnist_arrays())  # not compressed
    with open(str(tmp_path / "mnist.npz"), "r+b") as file:
        file.seek(30_000_000)
        file.write(b"\x01")

    assert_refused(tmp_path, "Bad CRC-32", "x_train")


@pytest.mark.parametrize(
    "key, value, complaint",
    [
        ("x_test", None, "x_test.npy"),
        ("y_train", np.array([None, {}]), "Object arrays cannot be loaded"),
        ("x_train", np.zeros((600, 28, 28), np.uint8), "x_train has shape (600, 28, 28)"),
    ],
)
def test_archive_of_other_arrays(tmp_path, key, value, complaint):
    arrays = {name: array[:2] for name, array in mnist_arrays().items()}
    arrays[key] = value
    np.savez(str(tmp_path / "mnist.npz"), **{k: v for k, v in arrays.items() if v is not None})

    assert_refused(tmp_path, complaint)


@pytest.mark.parametrize(
    "key, value, complaint",
    [
        ("x_train", np.zeros((59999, 28, 28), np.uint8), "x_train has shape (59999, 28, 28)"),
        ("x_train", np.zeros((60000, 2, 2), np.uint8), "x_train has shape (60000, 2, 2)"),
        ("x_test", np.zeros((10000, 28, 28), np.float16), "type float16"),
        ("y_train", np.zeros(59999, np.uint8), "y_train has shape (59999,)"),
        ("y_test", np.zeros(10000, np.float32), "type float32"),
        ("y_train", np.full(60000, 10, np.uint8), "y_train has labels from 10 to 10"),
        ("y_test", np.full(10000, -1, np.int8), "y_test has labels from -1 to -1"),
    ],
)
def test_wrong_arrays(monkeypatch, key, value, complaint):
    serve_through_keras(monkeypatch, {**mnist_arrays(), key: value})

    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        datasets.load("mnist")
    assert "keras.datasets.mnist" in str(caught.value) and "--data_dir" in str(caught.value)


def serve_through_keras(monkeypatch, arrays):
    pairs = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: tuple(pairs))


def test_through_keras(monkeypatch):
    arrays = mnist_arrays()
    arrays["y_train"] = arrays["y_train"][:, np.newaxis]  # as keras.datasets.cifar10 has them
    serve_through_keras(monkeypatch, arrays)

    data = datasets.load("mnist")

    np.testing.assert_array_equal(data.validation.labels, np.arange(50000, 60000) % 256 % 10)
    assert data.input_shape == (28, 28, 1)


def test_failed_download(monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://example.com/cifar10: no network")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)

    with pytest.raises(FileNotFoundError, match="'cifar10'.*URL fetch failure") as caught:
        datasets.load("cifar10")
    assert "cifar10.npz" in str(caught.value) and "--data_dir" in str(caught.value)


def real_data():
    beside_the_repository = pathlib.Path(__file__).parents[3] / "shared" / "data"
    return pathlib.Path(os.environ.get("RANDOM_BASES_DATA", str(beside_the_repository)))


@pytest.mark.parametrize(
    "name, shape, mean, deviation",
    [  # of the 60,000 (50,000) training images, as in the README beside the archives
        ("mnist", (28, 28, 1), [33.3184], [78.5675]),
        ("fashion_mnist", (28, 28, 1), [72.9404], [90.0212]),
        pytest.param(
            *("cifar10", (32, 32, 3), [125.307, 122.950, 113.865], [62.993, 62.089, 66.705]),
            marks=pytest.mark.slow,  # 10 to 20 s to decompress
        ),
    ],
)
def test_real_data(name, shape, mean, deviation):
    if not (real_data() / f"{name}.npz").exists():
        pytest.skip(f"no {name}.npz in {real_data()}; RANDOM_BASES_DATA names its directory")

    data = datasets.load(name, real_data())

    images = np.concatenate([data.train.images, data.validation.images]).reshape(-1, shape[-1])
    histograms = np.stack([np.bincount(channel, minlength=256) for channel in images.T])
    values = np.arange(256)
    means = histograms @ values / len(images)
    deviations = np.sqrt(histograms @ values**2 / len(images) - means**2)
    np.testing.assert_allclose(means, mean, atol=1e-3)
    np.testing.assert_allclose(deviations, deviation, atol=1e-3)
    assert data.input_shape == shape
    assert len(data.validation) == len(data.test) == 10000
    batch_images, batch_labels = next(iter(datasets.training_batches(data.train, 32, seed=0)))
    assert batch_images.shape == (32, *shape) and batch_labels.shape == (32,)
    assert np.all(np.isfinite(batch_images))
