"""Image data sets, and batches of them that a run can resume at any step.

The splits and the augmentation are those of Gressmann et al. 2020 (arXiv:2011.04720):

| data set               | preprocessing                         | in training also                  |
| ---------------------- | ------------------------------------- | --------------------------------- |
| mnist, fashion_mnist   | x / 255                               | zero-pad by 3 and crop, brightness |
| cifar10                | x / 255, then standardised per image  | zero-pad by 4 and crop, flip      |
| digits (not the paper) | x / 16                                | nothing: 8x8 pixels leave no room |
"""

import dataclasses
import io
import os
import zipfile
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import tensorflow as tf

from random_bases.keras_api import keras

NUM_CLASSES = 10
NUM_VALIDATION = 10_000
_POWER_OF_TWO = 256

# What an epoch's random numbers are for. The numbers are part of the streams (see
# `training_batches`): never change or reuse one.
_ORDER, _CROP, _BRIGHTNESS, _FLIP = range(4)


class Preprocessing(NamedTuple):
    """How pixels become a network's inputs.

    Attributes:
      max_value: the pixel value that becomes 1.
      standardize: whether each image is then brought to mean 0 and standard deviation 1.
      pad: in training, zeros added on each side before cropping back at a random place.
      flip: in training, whether half of the images, drawn at random, are mirrored left to right.
      brightness: in training, the largest value added to all pixels of an image (or subtracted), in
        units of `max_value`; the sum is not clipped.
    """

    max_value: int
    standardize: bool = False
    pad: int = 0
    flip: bool = False
    brightness: float = 0.0

    def without_augmentation(self) -> "Preprocessing":
        """The part that evaluation uses, too."""
        return Preprocessing(self.max_value, self.standardize)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSplit:
    """Labelled images.

    Attributes:
      images: uint8 [N, height, width, channels].
      labels: int32 [N].
      preprocessing: how the images become a network's inputs.
    """

    images: np.ndarray
    labels: np.ndarray
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A data set's name and its three parts, which share no example."""

    name: str
    num_classes: int
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit

    @property
    def input_shape(self) -> Tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return self.train.images.shape[1:]


class _Archive(NamedTuple):
    """What `<name>.npz` must hold."""

    image_shape: Tuple[int, ...]
    num_train: int
    num_test: int
    preprocessing: Preprocessing


_MNIST = _Archive((28, 28), 60_000, 10_000, Preprocessing(255, pad=3, brightness=0.5))
_CIFAR10 = _Archive((32, 32, 3), 50_000, 10_000, Preprocessing(255, standardize=True, pad=4, flip=True))
_ARCHIVES = {"mnist": _MNIST, "fashion_mnist": _MNIST, "cifar10": _CIFAR10}
_KEYS = ("x_train", "y_train", "x_test", "y_test")

NAMES = ("digits", *_ARCHIVES)


def load(name: str, data_dir: Optional[Union[str, "os.PathLike[str]"]] = None) -> ImageDataset:
    """Loads a data set into memory.

    The last 10,000 training examples are held out for validation. The 1,797 digits of scikit-learn
    are ordered by writer: they are shuffled once, always in the same way, into 1,097 for training,
    350 for validation and 350 for testing.

    Args:
      name: "digits" (bundled with scikit-learn; `data_dir` is not used), "mnist", "fashion_mnist" or
        "cifar10".
      data_dir: a directory with `<name>.npz`, which holds uint8 arrays x_train, y_train, x_test and
        y_test. None: `keras.datasets` downloads the data set, or takes it from its cache.

    Raises:
      ValueError: if the name is unknown, or the file is damaged or does not hold the data set.
      FileNotFoundError: if there is no such file, or the download failed.
    """
    if name not in NAMES:
        raise ValueError(f"name={name!r} is not a data set; allowed: {', '.join(NAMES)}.")
    if name == "digits":
        return _load_digits()
    if data_dir is None:
        source, arrays = f"keras.datasets.{name}", _download(name)
    else:
        source = os.path.join(os.path.expanduser(data_dir), f"{name}.npz")
        arrays = _read_archive(source, name)
    return _checked(name, source, arrays)


def shuffle_pixels(data: ImageDataset, seed: int) -> ImageDataset:
    """Moves the pixels of all images in the same way: what is close in an image no longer is.

    As in Li et al. 2018 (arXiv:1804.08838, section 3), to see what a convolutional network loses.

    Args:
      data: is left as it is.
      seed: of the permutation, an int in [0, 2**32).
    """
    height, width, channels = data.input_shape
    order = np.random.RandomState(seed).permutation(height * width)

    def shuffled(split):
        pixels = split.images.reshape(-1, height * width, channels)[:, order]
        return dataclasses.replace(split, images=pixels.reshape(split.images.shape))

    return dataclasses.replace(
        data, train=shuffled(data.train), validation=shuffled(data.validation), test=shuffled(data.test)
    )


def shuffle_labels(data: ImageDataset, seed: int) -> ImageDataset:
    """Shuffles the labels of the training examples, which can then only be memorised.

    As in Li et al. 2018 (arXiv:1804.08838, section 3) and Zhang et al. 2017 (arXiv:1611.03530).

    Args:
      data: is left as it is.
      seed: of the permutation, an int in [0, 2**32).
    """
    order = np.random.RandomState(seed).permutation(len(data.train))
    return dataclasses.replace(data, train=dataclasses.replace(data.train, labels=data.train.labels[order]))


def steps_per_epoch(split: ImageSplit, batch_size: int) -> int:
    """The number of complete batches in a split; what is left over is dropped.

    Raises:
      ValueError: if `batch_size` is not an int from 1 to the number of examples.
    """
    _check_int("batch_size", batch_size, 1, len(split))
    return len(split) // batch_size


def training_batches(
    split: ImageSplit,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_steps: Optional[int] = None,
    augment: bool = True,
) -> tf.data.Dataset:
    """Shuffled, augmented batches; the batch of step t is a function of (seed, t) alone.

    So a run that stopped before step t goes on exactly with `start_step=t`. Every epoch has an order
    of its own and shows each example at most once.

    An epoch's random numbers come from `tf.random.stateless_uniform` under the seed
    (seed, 4 * epoch + stream), where the stream is 0 for the order, 1 for crops, 2 for brightness and
    3 for flips: no two epochs, streams or seeds share one. The order does not depend on `augment`.

    Args:
      split: the examples.
      batch_size: examples in a batch.
      seed: an int in [0, 2**31).
      start_step: the step, counted from the beginning of training, of the first batch.
      num_steps: the number of batches; None: without end.
      augment: whether to augment as `split.preprocessing` says.

    Returns:
      A dataset of (images, labels): float32 [batch_size, height, width, channels] and int32
      [batch_size], all static.

    Raises:
      ValueError: if an argument is out of its range.
    """
    steps = steps_per_epoch(split, batch_size)
    _check_int("seed", seed, 0, 2**31 - 1)
    _check_int("start_step", start_step, 0)
    if num_steps is not None:
        _check_int("num_steps", num_steps, 0)
    preprocessing = split.preprocessing
    if not augment:
        preprocessing = preprocessing.without_augmentation()

    with tf.device("CPU:0"):  # where tf.data runs, even if there is a GPU
        columns = tf.constant(_padded_columns(split.images, preprocessing.pad))
        labels = tf.constant(split.labels)
    first_epoch, first_step = divmod(start_step, steps)

    def epoch_plans(epoch):
        shape = [steps, batch_size]
        order, *offsets = _draw_epoch(epoch, seed, len(split), shape, preprocessing)
        plans = (tf.gather(labels, order), order, *offsets)
        return tf.data.Dataset.from_tensor_slices(plans)

    def batch(labels, *plan):
        images = _augment(columns, *plan, preprocessing)
        return _standardize(images, preprocessing), labels

    dataset = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_plans)
    dataset = dataset.skip(first_step)  # skips plans, not images
    if num_steps is not None:
        dataset = dataset.take(num_steps)
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    cardinality = tf.data.INFINITE_CARDINALITY if num_steps is None else num_steps
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_batches(split: ImageSplit, batch_size: int) -> tf.data.Dataset:
    """Every example once, in order, without augmentation; the last batch may be smaller.

    Returns:
      A dataset of (images, labels): float32 [<= batch_size, height, width, channels] and int32
      [<= batch_size].

    Raises:
      ValueError: if `batch_size` is not an int of at least 1.
    """
    _check_int("batch_size", batch_size, 1)
    with tf.device("CPU:0"):
        images = tf.constant(split.images)
        labels = tf.constant(split.labels)

    def batch(start):
        rows = slice(start, start + batch_size)
        scaled = _scale(images[rows], split.preprocessing)
        return _standardize(scaled, split.preprocessing), labels[rows]

    dataset = tf.data.Dataset.range(0, len(split), batch_size)
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _draw_epoch(
    epoch: tf.Tensor, seed: int, num_examples: int, shape: List[int], preprocessing: Preprocessing
) -> Tuple[tf.Tensor, ...]:
    """Draws the random numbers of a whole epoch at once, so that they cost a step next to nothing.

    Args:
      epoch: int64 scalar.
      shape: [steps in the epoch, batch size].

    Returns:
      Tensors of that shape: the examples' numbers, the top and left edges of the crops, whether to
      flip (0 or 1), all int32, and the brightness to add, float32.
    """

    def uniform(stream, shape, low, high, dtype):
        pair = tf.stack([tf.constant(seed, tf.int64), 4 * epoch + stream])
        return tf.random.stateless_uniform(shape, pair, low, high, dtype)

    keys = uniform(_ORDER, [num_examples], None, None, tf.int32)
    order = tf.argsort(keys, stable=True)[: shape[0] * shape[1]]
    top, left = tf.unstack(uniform(_CROP, [2, *shape], 0, 2 * preprocessing.pad + 1, tf.int32))
    flip = uniform(_FLIP, shape, 0, 1 + preprocessing.flip, tf.int32)
    largest = preprocessing.brightness
    brightness = uniform(_BRIGHTNESS, shape, -largest, largest, tf.float32)
    return tf.reshape(order, shape), top, left, flip, brightness


def _padded_columns(images: np.ndarray, pad: int) -> np.ndarray:
    """Zero-pads images [N, height, width, C] and stores their columns: [N, width, height, C]."""
    number, height, width, channels = images.shape
    columns = np.zeros((number, width + 2 * pad, height + 2 * pad, channels), images.dtype)
    columns[:, pad : pad + width, pad : pad + height] = images.swapaxes(1, 2)
    return columns


def _augment(
    columns: tf.Tensor,
    order: tf.Tensor,
    top: tf.Tensor,
    left: tf.Tensor,
    flip: tf.Tensor,
    brightness: tf.Tensor,
    preprocessing: Preprocessing,
) -> tf.Tensor:
    """Picks, crops, mirrors and brightens a batch: of `_padded_columns`, at one step's random numbers.

    Returns:
      float32 [batch, height, width, channels], scaled.
    """
    _, padded_width, padded_height, channels = columns.shape
    rightwards = np.arange(padded_width - 2 * preprocessing.pad, dtype=np.int32)
    directions = np.stack([rightwards, rightwards[::-1]])
    downwards = np.arange(padded_height - 2 * preprocessing.pad, dtype=np.int32)

    # Whole columns, then, transposed back, whole rows: twice as fast as pixel by pixel.
    columns = tf.reshape(columns, [-1, padded_height, channels])
    across = (order * padded_width + left)[:, tf.newaxis] + tf.gather(directions, flip)
    # Scaled before the transpose: oneDNN complains about one of uint8 on many machines.
    images = _scale(tf.gather(columns, across), preprocessing)
    images = tf.transpose(images, [0, 2, 1, 3])
    images = tf.gather(images, top[:, tf.newaxis] + downwards, batch_dims=1)
    if preprocessing.brightness:
        images += brightness[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return images


def _scale(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    # Standardising undoes any scale; a power of two keeps its sums exact.
    unit = _POWER_OF_TWO if preprocessing.standardize else preprocessing.max_value
    return tf.cast(images, tf.float32) / unit


def _standardize(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Brings each scaled image to mean 0 and deviation 1, if its data set asks for it.

    The same as `tf.image.per_image_standardization` (which takes a deviation of at least
    1 / sqrt(number of values)), but to the last bit on any number of cores: a row's sums are multiples
    of a power of two that float32 holds exactly if it has at most 258 values, and so are the rows' in
    float64.
    """
    if not preprocessing.standardize:
        return images
    number = float(np.prod(images.shape[1:]))
    smallest = preprocessing.max_value / _POWER_OF_TWO / number**0.5

    def mean(values):
        rows = tf.cast(tf.reduce_sum(values, axis=[2, 3], keepdims=True), tf.float64)
        return tf.reduce_sum(rows, axis=1, keepdims=True) / number

    average = mean(images)
    variance = mean(tf.square(images)) - tf.square(average)
    deviation = tf.sqrt(tf.maximum(variance, smallest**2))
    return (images - tf.cast(average, tf.float32)) / tf.cast(deviation, tf.float32)


def _check_int(name: str, value: int, smallest: int, largest: Optional[int] = None) -> None:
    is_int = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_int or value < smallest or (largest is not None and value > largest):
        allowed = f"of at least {smallest}" if largest is None else f"from {smallest} to {largest}"
        raise ValueError(f"{name}={value!r} is not possible; allowed: an int {allowed}.")


def _load_digits() -> ImageDataset:
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)
    # RandomState's streams are frozen: every version of NumPy shuffles in the same way.
    order = np.random.RandomState(0).permutation(len(images))

    def split(rows):
        return ImageSplit(images[rows], labels[rows], Preprocessing(16))

    train, validation, test = np.split(order, [len(order) - 700, len(order) - 350])
    return ImageDataset("digits", NUM_CLASSES, split(train), split(validation), split(test))


def _download(name: str) -> Dict[str, np.ndarray]:
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise FileNotFoundError(
            f"data set {name!r}: keras.datasets.{name}.load_data() failed: {error}\n"
            f"On a machine without a network, put {name}.npz (uint8 arrays {', '.join(_KEYS)}) into a "
            "directory and name that directory in --data_dir."
        ) from error
    return dict(zip(_KEYS, (x_train, y_train, x_test, y_test)))


def _read_archive(path: str, name: str) -> Dict[str, np.ndarray]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist. {_remedy(name)}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {key: archive.getinfo(f"{key}.npy") for key in _KEYS}
            for key, member in members.items():
                most = _most_bytes(_ARCHIVES[name], key)
                if (
                    member.file_size > most
                ):  # before it is unpacked: a small file can hold any number of zeros
                    raise ValueError(f"{key}.npy has {member.file_size} bytes, unpacked; at most {most}")
            # Not numpy.load: it may stop short of where zipfile compares the checksum.
            return {key: _read_member(archive, member) for key, member in members.items()}
    except Exception as error:  # zipfile, zlib, lzma and NumPy each have errors of their own
        raise ValueError(
            f"{path} cannot be read: {error!r}. It must be an .npz archive of {', '.join(_KEYS)}. "
            f"{_remedy(name)}"
        ) from error


def _most_bytes(expected: _Archive, key: str) -> int:
    """What a member of an archive can have: bytes of images or labels of int64, and NumPy's header."""
    number = expected.num_train if key.endswith("train") else expected.num_test
    return number * (int(np.prod(expected.image_shape)) if key.startswith("x") else 8) + 2**16


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        content = file.read(member.file_size)  # no more is unpacked, whatever there is
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _checked(name: str, source: str, arrays: Dict[str, np.ndarray]) -> ImageDataset:
    """Splits a data set's arrays, if they are what they must be."""
    expected = _ARCHIVES[name]

    def part(which, number):
        images, labels = arrays[f"x_{which}"], arrays[f"y_{which}"]
        shape = (number, *expected.image_shape)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(
                f"{source}: x_{which} has shape {images.shape} and type {images.dtype}; needed: {shape} "
                f"and uint8. {_remedy(name)}"
            )
        # keras.datasets.cifar10 has labels of shape [N, 1].
        if labels.shape not in ((number,), (number, 1)) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{source}: y_{which} has shape {labels.shape} and type {labels.dtype}; needed: "
                f"{(number,)} and integers. {_remedy(name)}"
            )
        if labels.min() < 0 or labels.max() >= NUM_CLASSES:
            raise ValueError(
                f"{source}: y_{which} has labels from {labels.min()} to {labels.max()}; needed: 0 to "
                f"{NUM_CLASSES - 1}. {_remedy(name)}"
            )
        images = images.reshape(*images.shape[:3], -1)  # a channel axis, where there is none
        return images, labels.reshape(-1).astype(np.int32)

    def split(images, labels):
        return ImageSplit(images, labels, expected.preprocessing)

    images, labels = part("train", expected.num_train)
    train = split(images[:-NUM_VALIDATION], labels[:-NUM_VALIDATION])
    validation = split(images[-NUM_VALIDATION:], labels[-NUM_VALIDATION:])
    test = split(*part("test", expected.num_test))
    return ImageDataset(name, NUM_CLASSES, train, validation, test)


def _remedy(name: str) -> str:
    return (
        f"keras.datasets.{name} downloads the data set if --data_dir is left out; otherwise --data_dir "
        f"must name a directory with a good copy of {name}.npz."
    )
