"""Products of layers with A B^T: those of the layer itself with that matrix for a kernel."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases.keras_api import keras
from random_bases.models import tapping

EinsumDense = getattr(keras.layers, "EinsumDense", None) or keras.layers.experimental.EinsumDense
RANK, ROWS = 2, 3

# What makes a layer without bias, and the shape of an example.
LAYERS = {
    "dense": (lambda: keras.layers.Dense(4), (5,)),
    "dense of sequences": (lambda: keras.layers.Dense(4), (3, 5)),
    "einsum, heads": (lambda: EinsumDense("abc,cde->abde", (None, 2, 3)), (4, 6)),
    "einsum, back": (lambda: EinsumDense("abcd,cde->abe", (None, 5)), (4, 2, 3)),
    "einsum, turned": (lambda: EinsumDense("abc,cd->adb", (5, None)), (4, 6)),
    "conv1d": (lambda: keras.layers.Conv1D(4, 3, strides=2, padding="same"), (9, 5)),
    "conv1d, dilated": (lambda: keras.layers.Conv1D(4, 3, dilation_rate=2), (9, 5)),
    "conv2d": (lambda: keras.layers.Conv2D(4, 3), (6, 7, 2)),
    "conv2d, strided": (lambda: keras.layers.Conv2D(4, (3, 2), strides=2, padding="same"), (6, 7, 2)),
    "conv3d": (lambda: keras.layers.Conv3D(4, 2), (3, 4, 3, 2)),
    "transposed 1d": (lambda: keras.layers.Conv1DTranspose(4, 3, strides=2), (5, 3)),
    "transposed 2d": (
        lambda: keras.layers.Conv2DTranspose(4, (3, 2), strides=(1, 2), padding="same"),
        (4, 3, 2),
    ),
    "transposed 3d": (lambda: keras.layers.Conv3DTranspose(4, 2, strides=2), (2, 3, 2, 2)),
    "embedding": (lambda: keras.layers.Embedding(7, 4), None),
}


@pytest.mark.parametrize("mapped", [False, True], ids=["alone", "mapped"])
@pytest.mark.parametrize("name", LAYERS)
def test_thin_products_are_those_of_the_dense_matrix(name, mapped):
    make, shape = LAYERS[name]
    rng = np.random.RandomState(0)
    x = rng.randint(0, 7, (2, 5)) if shape is None else rng.normal(size=(2, *shape)).astype(np.float32)
    x = tf.constant(x)
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), make()])
    (variable, *_) = model.trainable_variables
    (linear,) = tapping.of(model, [variable]).values()
    positions, inputs, outputs = linear.matrix
    a = rng.normal(size=(ROWS, positions * inputs, RANK)).astype(np.float32)
    b = rng.normal(size=(ROWS, outputs, RANK)).astype(np.float32)
    if mapped:  # as offspring are: what is each one's own must not keep products from being batched
        program = tf.function(lambda a, b: tf.vectorized_map(lambda ab: linear.product(x, *ab), (a, b)))
        operations = {node.op for node in program.get_concrete_function(a, b).graph.as_graph_def().node}
        # TensorFlow has no batched Conv3D.
        assert name in ("conv3d", "transposed 3d") or not operations & {"While", "StatelessWhile"}
        found = program(a, b)
    else:
        found = [linear.product(x, tf.constant(each_a), tf.constant(each_b)) for each_a, each_b in zip(a, b)]
    for each_a, each_b, product in zip(a, b, found):
        variable.assign((each_a @ each_b.T).reshape(variable.shape))
        np.testing.assert_allclose(product, model(x), atol=2e-5)
