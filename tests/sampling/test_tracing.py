"""Functions that many programs share."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases.sampling.tracing import traced_once

SHAPES = [(1, 1), (11,), (1, 11), (11, 1), (111,), ()]


@pytest.fixture
def added():
    """(the function, how often it was traced)."""
    traces = []

    @traced_once
    def added(pair, word, constant=0):
        traces.append(word.shape)
        return pair[0] + pair[1] + word, word + constant

    return added, traces


@pytest.mark.parametrize("in_graph", [False, True])
def test_shapes_with_the_same_digits_are_not_mixed_up(added, in_graph):
    function, traces = added
    for shape in SHAPES:
        word = np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
        # A new outer function each time: TensorFlow 2.6 would mix the shapes up there.
        call = tf.function(lambda *arguments: function(*arguments)) if in_graph else function
        total, same = call((tf.constant(1), tf.constant(2)), tf.constant(word))
        np.testing.assert_array_equal(total, word + 3)
        np.testing.assert_array_equal(same, word)
    assert [tuple(shape) for shape in traces] == SHAPES


def test_programs_share_one_trace(added):
    function, traces = added
    for offset in range(3):
        program = tf.function(lambda x, offset=offset: function((x, x), x + offset)[0], jit_compile=True)
        assert int(program(tf.constant(5))) == 15 + offset
    assert len(traces) == 1


def test_constants_are_told_apart(added):
    function, traces = added
    word = tf.constant([1, 2])
    for constant in (3, 4, 3):
        np.testing.assert_array_equal(function((word, word), word, constant=constant)[1], word + constant)
    assert len(traces) == 2
