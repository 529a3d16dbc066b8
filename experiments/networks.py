"""The networks of Gressmann et al. 2020 (arXiv:2011.04720), CIFAR ResNets, and those of Li et al. 2018.

Every function builds a new, uncompiled Functional model from images [batch, height, width, channels]
to class probabilities [batch, num_classes], with Keras's default initialisers.
"""

import functools
from typing import Sequence, Tuple

from random_bases.keras_api import keras

# The smallest image side that is still 1 pixel wide after the CNN's convolutions and poolings:
# 18 -> 16 -> 8 -> 6 -> 3 -> 1.
CNN_SMALLEST_SIDE = 18
# The same for LeNet: 16 -> 12 -> 6 -> 2 -> 1.
LENET_SMALLEST_SIDE = 16


def get(name: str, input_shape: Tuple[int, int, int], num_classes: int = 10) -> keras.Model:
    """Builds a network by name.

    Args:
      name: "fc", "cnn", "resnet8", "resnet20" or "resnet32"; "fc200", "fc400x5" or "lenet".
      input_shape: (height, width, channels) of an image.
      num_classes: the number of outputs.

    Returns:
      An uncompiled model.

    Raises:
      ValueError: if the name is unknown, or the shape is not of an image or too small for the network.
    """
    if name not in _NETWORKS:
        raise ValueError(f"name={name!r} is not a network; allowed: {', '.join(_NETWORKS)}.")
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(size is not None and size >= 1 for size in shape):
        raise ValueError(
            f"input_shape={shape} is not possible; allowed: (height, width, channels), each at least 1."
        )
    return _NETWORKS[name](shape, num_classes)


def fc(input_shape: Tuple[int, int, int], num_classes: int = 10) -> keras.Model:
    """Fully connected: one hidden layer of 128 ReLUs (Gressmann et al. 2020, "FC")."""
    images = keras.Input(input_shape)
    x = keras.layers.Flatten()(images)
    x = keras.layers.Dense(128, activation="relu")(x)
    return keras.Model(images, _classify(x, num_classes), name="fc")


def hidden_layers(
    input_shape: Tuple[int, int, int], num_classes: int = 10, *, widths: Sequence[int], name: str
) -> keras.Model:
    """Fully connected, with several hidden layers of ReLUs (Li et al. 2018, arXiv:1804.08838)."""
    images = keras.Input(input_shape)
    x = keras.layers.Flatten()(images)
    for width in widths:
        x = keras.layers.Dense(width, activation="relu")(x)
    return keras.Model(images, _classify(x, num_classes), name=name)


def lenet(input_shape: Tuple[int, int, int], num_classes: int = 10) -> keras.Model:
    """LeNet: two valid 5x5 convolutions, each with a 2x2 maximum, then 120 and 84 ReLUs (Li et al. 2018).

    Raises:
      ValueError: if the images are smaller than 16x16.
    """
    _check_side("lenet", input_shape, LENET_SMALLEST_SIDE)
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(6, 5, activation="relu")(images)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(16, 5, activation="relu")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(120, activation="relu")(x)
    x = keras.layers.Dense(84, activation="relu")(x)
    return keras.Model(images, _classify(x, num_classes), name="lenet")


def cnn(input_shape: Tuple[int, int, int], num_classes: int = 10) -> keras.Model:
    """Convolutional: three valid 3x3 convolutions, two poolings (Gressmann et al. 2020, "CNN").

    Raises:
      ValueError: if the images are smaller than 18x18.
    """
    _check_side("cnn", input_shape, CNN_SMALLEST_SIDE)
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(32, 3, activation="relu")(images)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(64, 3, activation="relu")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(64, 3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    return keras.Model(images, _classify(x, num_classes), name="cnn")


def resnet(input_shape: Tuple[int, int, int], num_classes: int = 10, *, blocks_per_stage: int) -> keras.Model:
    """The CIFAR ResNet of He et al. 2016 (arXiv:1512.03385, section 4.2).

    Three stages of 16, 32 and 64 channels, 6 n + 2 layers for n = `blocks_per_stage`. Where the shape
    changes, the shortcut is a 1x1 convolution, as in Gressmann et al. 2020; He et al. use padding.
    """
    images = keras.Input(input_shape)
    x = _convolve(images, 16)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(blocks_per_stage):
            narrows = stage > 0 and block == 0
            x = _residual_block(x, channels, narrows)
    x = keras.layers.GlobalAveragePooling2D()(x)
    name = f"resnet{6 * blocks_per_stage + 2}"
    return keras.Model(images, _classify(x, num_classes), name=name)


def _check_side(name: str, input_shape: Tuple[int, int, int], smallest: int) -> None:
    if min(input_shape[:2]) < smallest:
        raise ValueError(
            f"input_shape={tuple(input_shape)} is too small for the network {name!r}: the smallest image "
            f"it takes is {smallest}x{smallest}; the fully connected networks and the ResNets take any."
        )


def _residual_block(x, channels: int, narrows: bool):
    strides = 2 if narrows else 1
    shortcut = _convolve(x, channels, kernel_size=1, strides=strides) if narrows else x
    x = _convolve(x, channels, strides=strides)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = _convolve(x, channels)
    x = keras.layers.BatchNormalization()(x)
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def _convolve(x, channels: int, kernel_size: int = 3, strides: int = 1):
    return keras.layers.Conv2D(channels, kernel_size, strides=strides, padding="same", use_bias=False)(x)


def _classify(x, num_classes: int):
    return keras.layers.Dense(num_classes, activation="softmax")(x)


_NETWORKS = {
    "fc": fc,
    "cnn": cnn,
    "resnet8": functools.partial(resnet, blocks_per_stage=1),
    "resnet20": functools.partial(resnet, blocks_per_stage=3),
    "resnet32": functools.partial(resnet, blocks_per_stage=5),
    "fc200": functools.partial(hidden_layers, widths=(200,) * 2, name="fc200"),
    "fc400x5": functools.partial(hidden_layers, widths=(400,) * 5, name="fc400x5"),
    "lenet": lenet,
}
NAMES = tuple(_NETWORKS)
