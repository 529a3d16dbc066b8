"""Bytes that are alive at once, counted by hand."""

import pytest
import tensorflow as tf

from random_bases.planning.liveness import bytes_of, live_bytes

MATRIX = 4 * 100 * 100


def traced(function):
    """live_bytes of a function of a matrix that returns (what is forward, what else comes)."""
    found = []

    def call(x):
        found.extend(function(x))
        return found[0]

    graph = tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec([100, 100])).graph
    return live_bytes(graph, found[0]), live_bytes(graph, found[0], found)


def test_a_product_has_a_buffer_and_what_is_fused_has_none():
    def fused(x):
        return [tf.reduce_sum(tf.nn.relu(tf.matmul(x, x)) + 1.0, axis=0)]

    live, _ = traced(fused)
    assert live.most == MATRIX + 400  # the product and the sum
    assert live.kept == 0


def test_what_a_product_reads_is_stored_and_read_by_others_from_before():
    def stored(x):
        y = tf.matmul(x, x)
        z = tf.nn.relu(y)
        return [tf.matmul(z, z)]

    live, _ = traced(stored)
    assert live.most == 3 * MATRIX  # y, z while it is made of y, and the result

    def after(x):
        y = tf.matmul(x, x)
        z = tf.nn.relu(y)
        product = tf.matmul(z, z)
        # As a gradient of ReLU: computed again of y, not read of z.
        return [product, tf.matmul(tf.where(z > 0.0, product, 0.0), x)]

    live, _ = traced(after)
    assert live.kept == 2 * MATRIX  # y and the product


def test_what_is_expensive_is_stored_where_it_is_read_twice():
    def once(x):
        return [tf.reduce_sum(tf.exp(tf.matmul(x, x)), axis=0)]

    def twice(x):
        y = tf.exp(tf.matmul(x, x)) + 1.0
        return [tf.reduce_sum(y, axis=0), tf.reduce_sum(y, axis=1)]

    assert traced(once)[0].most == MATRIX + 400
    live, held = traced(twice)
    assert live.most == 2 * MATRIX
    assert (live.kept, held.kept) == (MATRIX, MATRIX + 400)


def test_views_are_their_tensors():
    def view(x):
        y = tf.reshape(tf.identity(tf.matmul(x, x)), [10, 1000])
        return [tf.reshape(y, [100, 100]), tf.matmul(y, y, transpose_b=True)]

    live, held = traced(view)
    assert live.most == MATRIX + 400
    assert held.most == MATRIX + 400


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", [3, 4], 48), ("float16", [3], 6), ("int64", [], 8), ("float32", [None, 4], 0)],
)
def test_bytes(dtype, shape, size):
    assert bytes_of(tf.TensorSpec(shape, dtype)) == size
