"""The paper's networks: sizes worked out by hand, outputs, and what is refused."""

import numpy as np
import pytest

from experiments import networks
from random_bases.keras_api import keras, set_random_seed

MNIST, CIFAR10, DIGITS = (28, 28, 1), (32, 32, 3), (8, 8, 1)


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def dense(inputs, outputs):
    return inputs * outputs + outputs


def conv(inputs, outputs, side=3, bias=True):
    return side * side * inputs * outputs + bias * outputs


def batch_normalization(channels):
    """Scale and shift; the moving mean and variance are as many again, and do not train."""
    return 2 * channels


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("fc", MNIST, 101_770),
        ("fc", CIFAR10, 394_634),
        ("cnn", MNIST, 93_322),
        ("cnn", CIFAR10, 122_570),
    ],
)
def test_parameters_as_in_table_1(name, shape, expected):
    model = networks.get(name, shape)

    assert count(model.weights) == count(model.trainable_variables) == expected


def test_parameters_of_fc_and_cnn_worked_out():
    fc = dense(28 * 28, 128) + dense(128, 10)
    # A side of 28: 26, pooled 13, 11, pooled 5, 3.
    cnn = conv(1, 32) + conv(32, 64) + conv(64, 64) + dense(3 * 3 * 64, 64) + dense(64, 10)

    assert count(networks.fc(MNIST).weights) == fc
    assert count(networks.cnn(MNIST).weights) == cnn


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("fc200", MNIST, 199_210),
        ("fc200", CIFAR10, 656_810),
        ("fc400x5", MNIST, 959_610),
        ("lenet", MNIST, 44_426),
        ("lenet", CIFAR10, 62_006),
    ],
)
def test_parameters_as_in_li_2018(name, shape, expected):
    model = networks.get(name, shape)

    assert count(model.weights) == count(model.trainable_variables) == expected
    assert model.name == name


def test_parameters_of_li_2018_worked_out():
    # A side of 28: 24, pooled 12, 8, pooled 4; a side of 32 ends at 5.
    def lenet(channels, side):
        convolutions = conv(channels, 6, side=5) + conv(6, 16, side=5)
        return convolutions + dense(side * side * 16, 120) + dense(120, 84) + dense(84, 10)

    assert (lenet(1, 4), lenet(3, 5)) == (44_426, 62_006)
    assert dense(784, 200) + dense(200, 200) + dense(200, 10) == 199_210
    assert dense(3072, 200) + dense(200, 200) + dense(200, 10) == 656_810
    assert dense(784, 400) + 4 * dense(400, 400) + dense(400, 10) == 959_610


def resnet_parameters(blocks):
    trained = conv(3, 16, bias=False)
    normalized = batch_normalization(16)
    inputs = 16
    for channels in (16, 32, 64):
        if inputs != channels:
            trained += conv(inputs, channels, side=1, bias=False)
        trained += conv(inputs, channels, bias=False)
        trained += (2 * blocks - 1) * conv(channels, channels, bias=False)
        normalized += 2 * blocks * batch_normalization(channels)
        inputs = channels
    trained += normalized + dense(64, 10)
    return trained, trained + normalized


@pytest.mark.parametrize(
    "name, blocks, trainable, total",
    [
        ("resnet8", 1, 77_850, 78_330),
        # Two blocks more in each stage: each block has 2 convolutions and 2 normalisations,
        # 4,672 + 18,560 + 73,984 = 97,216 parameters, and 64 + 128 + 256 = 448 moving statistics.
        ("resnet20", 3, 77_850 + 2 * 97_216, 78_330 + 2 * (97_216 + 448)),
        ("resnet32", 5, 77_850 + 4 * 97_216, 78_330 + 4 * (97_216 + 448)),
    ],
)
def test_parameters_of_resnets(name, blocks, trainable, total):
    model = networks.get(name, CIFAR10)

    assert (trainable, total) == resnet_parameters(blocks)
    assert (count(model.trainable_variables), count(model.weights)) == (trainable, total)
    assert model.name == name


def test_resnet_halves_the_image_twice_and_shortcuts_have_no_normalization():
    model = networks.get("resnet8", CIFAR10)

    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    pointwise = [layer for layer in convolutions if layer.kernel_size == (1, 1)]
    pooling = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    assert len(convolutions) == 7 + 2
    assert not any(layer.use_bias for layer in convolutions)
    assert [layer.strides for layer in pointwise] == [(2, 2), (2, 2)]
    assert tuple(pooling[0].input.shape) == (None, 8, 8, 64)
    (addition, *_) = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    following = [layer for layer in model.layers if layer.input is addition.output]
    assert [type(layer) for layer in following] == [keras.layers.ReLU]


@pytest.mark.parametrize(
    "name, shape",
    [
        ("fc", DIGITS),
        ("cnn", MNIST),
        ("cnn", (18, 18, 2)),
        ("resnet8", DIGITS),
        ("resnet8", CIFAR10),
        ("resnet20", CIFAR10),
    ],
)
def test_outputs_are_probabilities(name, shape):
    set_random_seed(0)
    model = networks.get(name, shape, num_classes=7)
    images = np.random.RandomState(0).normal(size=(3, *shape)).astype(np.float32)

    outputs = model(images).numpy()

    assert outputs.shape == (3, 7)
    assert outputs.min() > 0
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


def test_default_initializers():
    for layer in networks.get("resnet8", CIFAR10).layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            assert type(layer.kernel_initializer).__name__ == "GlorotUniform"


def test_models_are_uncompiled_and_new():
    first, second = networks.get("fc", MNIST), networks.get("fc", MNIST)

    assert getattr(first, "optimizer", None) is None
    assert first.weights[0] is not second.weights[0]


def test_unknown_name():
    with pytest.raises(ValueError, match="name='mlp'.*fc, cnn, resnet8, resnet20, resnet32"):
        networks.get("mlp", MNIST)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 0), (None, None, 1)])
def test_impossible_shape(shape):
    with pytest.raises(ValueError, match="input_shape=.*height, width, channels"):
        networks.get("fc", shape)


@pytest.mark.parametrize("shape", [DIGITS, (15, 28, 1), (28, 15, 1)])
def test_lenet_names_its_smallest_image(shape):
    networks.get("lenet", (16, 16, 1))
    with pytest.raises(ValueError, match="'lenet': the smallest image it takes is 16x16"):
        networks.get("lenet", shape)


@pytest.mark.parametrize("shape", [DIGITS, (17, 28, 1), (28, 17, 1)])
def test_cnn_names_its_smallest_image(shape):
    with pytest.raises(ValueError, match="smallest image it takes is 18x18"):
        networks.get("cnn", shape)
