"""The last d gradients as directions, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import build_optimizer, keras
from tests.optimizers.helpers import (
    apply,
    assert_close,
    compile_,
    data,
    dense_model,
    flat,
    gradients,
    stepped,
    trained,
)

LIMIT = 10**6


def descent(rate=0.5, dimensions=3, **arguments):
    arguments = {"basis": "history", "memory_limit": LIMIT, **arguments}
    return rb.RandomBasesDescent(keras.optimizers.SGD(rate), dimensions=dimensions, seed=0, **arguments)


@pytest.mark.parametrize(("dimensions", "redraw_every"), [(1, 1), (3, 1), (3, 2)])
def test_a_run_against_numpy(dimensions, redraw_every):
    optimizer = descent(dimensions=dimensions, redraw_every=redraw_every)
    model = dense_model()
    weights, kept = flat(model.get_weights()), []
    for step in range(9):
        grads = gradients(model.trainable_variables, seed=step)
        apply(optimizer, grads, model.trainable_variables)
        gradient = flat(grads)
        for direction in kept[-dimensions:]:
            weights -= 0.5 * direction * (direction @ gradient)
        if (step + 1) % redraw_every == 0:
            kept.append(gradient / np.linalg.norm(gradient))
        np.testing.assert_allclose(flat(model.get_weights()), weights, atol=1e-5)


def test_the_first_step_moves_nothing():
    model = stepped(descent(), steps=1)
    np.testing.assert_array_equal(flat(model.get_weights()), flat(dense_model().get_weights()))
    assert np.any(flat(stepped(descent(), steps=2).get_weights()) != flat(model.get_weights()))


def test_a_gradient_of_zero_is_no_direction():
    optimizer, model = descent(), dense_model()
    zeros = [tf.zeros_like(g) for g in gradients(model.trainable_variables)]
    for grads in (zeros, gradients(model.trainable_variables)):
        apply(optimizer, grads, model.trainable_variables)
    np.testing.assert_array_equal(flat(model.get_weights()), flat(dense_model().get_weights()))


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compiled_is_as_eager(mode):
    assert_close(
        trained(descent(0.05, redraw_every=2), mode), trained(descent(0.05, redraw_every=2), "eager")
    )


def test_a_frozen_part_and_the_largest_coordinates():
    optimizer, model = descent(keep_fraction=0.34), dense_model()
    for step in range(4):
        grads = gradients(model.trainable_variables, seed=step)
        last = flat(model.get_weights())
        apply(optimizer, [None, *grads[1:]], model.trainable_variables)
    # One direction of three moved the weights: the change is parallel to one earlier gradient.
    change = flat(model.get_weights()) - last
    assert not np.any(change[:30])
    cosines = []
    for step in range(3):
        earlier = flat(gradients(model.trainable_variables, seed=step))
        earlier[:30] = 0
        cosines.append(abs(change @ earlier) / np.linalg.norm(change) / np.linalg.norm(earlier))
    assert max(cosines) == pytest.approx(1, abs=1e-5)


def test_learns():
    model = dense_model()
    compile_(model, descent(0.05, dimensions=5))
    x, y = data()
    history = model.fit(x, y, batch_size=8, epochs=15, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


def test_too_much_memory_is_refused_with_what_it_needs():
    optimizer = descent(memory_limit=4 * 64 * 3 - 1)
    with pytest.raises(ValueError, match="memory_limit=767 bytes .* 3 gradients of 64 .* take 768"):
        build_optimizer(optimizer, dense_model().trainable_variables)
    optimizer = descent(memory_limit=4 * 64 * 3)
    build_optimizer(optimizer, dense_model().trainable_variables)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_limit": None}, 'memory_limit=None must be an int with basis="history"'),
        ({"memory_limit": 1e9}, "memory_limit=1000000000.0 must be an int"),
        ({"basis": "normal"}, 'memory_limit=1000000 is for basis="history" only'),
        ({"compartments": "layer"}, "allows compartments='network' only, not 'layer'"),
        ({"replicas": "split"}, "allows replicas='shared' only, not 'split'"),
        ({"redraw_fraction": 0.5}, "allows redraw_fraction=1 only, not 0.5"),
        ({"redraw_every": None}, "redraw_every=None would keep no gradient"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        descent(**arguments)


def test_it_cannot_be_logged_for_replay(tmp_path):
    model = dense_model()
    compile_(model, descent())
    x, y = data()
    with pytest.raises(ValueError, match="basis='history' .* cannot be replayed"):
        model.fit(x, y, callbacks=[rb.ReplayLog(str(tmp_path / "log"))], verbose=0)
