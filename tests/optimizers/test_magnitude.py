"""Which coordinates move the weights and which directions are redrawn, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, build_optimizer, keras
from random_bases.optimizers.magnitude import count_of, keep_largest, redraw_weakest
from tests.dense_reference import dense
from tests.optimizers.helpers import (
    apply,
    assert_close,
    assert_equal,
    data,
    dense_model,
    flat,
    gradients,
    stepped,
    trained,
)

D, d = 64, 6


def rbd(inner=None, **arguments):
    arguments = {"dimensions": d, "basis": "rademacher", "seed": 3, **arguments}
    return rb.RandomBasesDescent(keras.optimizers.SGD(0.5) if inner is None else inner, **arguments)


def test_the_nearest_number_at_least_one():
    assert [count_of(fraction, 10) for fraction in (0.01, 0.24, 0.26, 0.5, 1)] == [1, 2, 3, 5, 10]


def test_keeps_the_largest():
    c = tf.constant([[1.0, -5.0, 0.5], [-2.0, 0.0, 3.0]])
    np.testing.assert_array_equal(keep_largest(c, 3), [[0, -5, 0], [-2, 0, 3]])
    np.testing.assert_array_equal(keep_largest(c, 6), c)


def test_redraws_the_weakest():
    draws = redraw_weakest(tf.constant([4, 0, 2, 3]), tf.constant([1.0, -5.0, 0.5, -2.0]), 2, tf.constant(7))
    np.testing.assert_array_equal(draws, [7, 0, 7, 3])


def matrix(draws, compartments=(D,), dimensions=(d,)):
    """P with each direction from a draw of its own, from P of whole draws."""
    p = np.zeros((D, d))
    row = column = 0
    for size, number in zip(compartments, dimensions):
        for j in range(column, column + number):
            whole = dense(size, number, "rademacher", 3, draws[j], first=column)
            p[row : row + size, j] = whole[:, j - column]
        row, column = row + size, column + number
    return p


@pytest.mark.parametrize(
    ("compartments", "dimensions", "allocation"),
    [((D,), (6,), "even"), ((40, 24), (4, 2), [4, 2]), ((32, 32), (3, 3), "even")],
)
def test_each_direction_may_be_of_another_draw(compartments, dimensions, allocation):
    subspace = rb.Subspace([(D,)], d, "rademacher", list(compartments), allocation)
    draws = np.array([5, 0, 2**31 - 1, 5, 1, 9], np.int32)
    p = matrix(draws, compartments, dimensions)
    (v,) = gradients([tf.zeros([D])])
    c, (sketched,) = subspace.sketch([v], 3, tf.constant(draws))
    np.testing.assert_allclose(c, p.T @ v.numpy(), atol=1e-5)
    np.testing.assert_allclose(sketched, p @ (p.T @ v.numpy()), atol=1e-5)
    np.testing.assert_allclose(subspace.project([v], 3, tf.constant(draws)), c, atol=1e-5)
    np.testing.assert_allclose(subspace.expand(c, 3, tf.constant(draws))[0], sketched, atol=1e-5)


def test_in_tiles_of_rows_and_columns():
    basis = rb.bases.get("rademacher", 200, 11, tile=64)
    tiled, whole = (rb.Subspace([(200,)], 11, b) for b in (basis, "rademacher"))
    draws = tf.constant(np.arange(11, dtype=np.int32) % 3)
    v = tf.constant(np.random.RandomState(0).normal(size=200), tf.float32)
    np.testing.assert_allclose(
        tiled.sketch([v], 0, draws)[1][0], whole.sketch([v], 0, draws)[1][0], atol=1e-5
    )


def test_draws_of_another_shape_or_basis_are_refused():
    (v,) = gradients([tf.zeros([D])])
    with pytest.raises(ValueError, match=r"draw has dtype int32 and shape \(5,\); allowed: "):
        rb.Subspace([(D,)], d).project([v], 3, tf.zeros([5], tf.int32))
    with pytest.raises(ValueError, match=r"draw has dtype int32 and shape \(6,\); allowed: "):
        rb.Subspace([(D,)], d, "hadamard").project([v], 3, tf.zeros([d], tf.int32))


@pytest.mark.parametrize("redraw_every", [1, 2])
def test_a_run_that_redraws_the_weakest_against_numpy(redraw_every):
    optimizer = rbd(redraw_fraction=0.34, redraw_every=redraw_every)
    model = dense_model()
    weights, draws = flat(model.get_weights()), np.zeros(d, np.int32)
    for step in range(5):
        grads = gradients(model.trainable_variables, seed=step)
        apply(optimizer, grads, model.trainable_variables)
        p = matrix(draws)
        c = p.T @ flat(grads)
        weights -= 0.5 * p @ c
        if (step + 1) % redraw_every == 0:
            draws[np.argsort(np.abs(c))[:2]] = (step + 1) // redraw_every
        np.testing.assert_allclose(flat(model.get_weights()), weights, atol=1e-4)
        np.testing.assert_array_equal(
            np.asarray(optimizer.rule.directions.draws(optimizer.iterations)), draws
        )
    assert len(set(draws)) > 1


def test_a_run_that_keeps_the_largest_against_numpy():
    optimizer = rbd(keep_fraction=0.5)
    model = dense_model()
    weights = flat(model.get_weights())
    for step in range(3):
        grads = gradients(model.trainable_variables, seed=step)
        apply(optimizer, grads, model.trainable_variables)
        p = matrix([step] * d)
        c = p.T @ flat(grads)
        c[np.argsort(np.abs(c))[:3]] = 0
        weights -= 0.5 * p @ c
        np.testing.assert_allclose(flat(model.get_weights()), weights, atol=1e-4)


def test_which_are_weakest_is_told_before_some_are_kept():
    both, one = rbd(redraw_fraction=0.34, keep_fraction=0.5), rbd(redraw_fraction=0.34)
    for optimizer in (both, one):
        model = dense_model()
        apply(optimizer, gradients(model.trainable_variables), model.trainable_variables)
    np.testing.assert_array_equal(both.rule.directions.draws(1), one.rule.directions.draws(1))


def test_all_kept_and_redrawn_is_plain_descent():
    assert_equal(stepped(rbd(keep_fraction=1.0, redraw_fraction=1.0)), stepped(rbd()))
    # So small a rest that it is no direction: all are redrawn, each by its own number.
    assert_close(stepped(rbd(redraw_fraction=0.99)), stepped(rbd()))


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compiled_is_as_eager(mode):
    arguments = {"redraw_fraction": 0.5, "keep_fraction": 0.5, "redraw_every": 2}
    assert_close(trained(rbd(**arguments), mode), trained(rbd(**arguments), "eager"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"redraw_fraction": 0.5},
        {"basis": "history", "memory_limit": 10**6, "redraw_every": 2},
    ],
    ids=["weakest", "history"],
)
def test_a_checkpoint_goes_on(tmp_path, arguments):
    def steps(model, optimizer, numbers):
        for number in numbers:
            apply(optimizer, gradients(model.trainable_variables, seed=number), model.trainable_variables)

    whole, first, second = dense_model(), dense_model(), dense_model(seed=1)
    optimizer = rbd(keras.optimizers.SGD(0.5, momentum=0.5), **arguments)
    steps(whole, optimizer, range(8))
    optimizer = rbd(keras.optimizers.SGD(0.5, momentum=0.5), **arguments)
    steps(first, optimizer, range(4))
    path = tf.train.Checkpoint(model=first, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    optimizer = rbd(keras.optimizers.SGD(0.5, momentum=0.5), **arguments)
    build_optimizer(optimizer, second.trainable_variables)
    status = tf.train.Checkpoint(model=second, optimizer=optimizer).read(path)
    status.assert_existing_objects_matched()
    steps(second, optimizer, range(4, 8))
    assert_equal(whole, second)


SUFFIX = ".h5" if GENERATION == "keras2.6" else ".keras"


@pytest.mark.parametrize(
    "arguments",
    [{"redraw_fraction": 0.5}, {"basis": "history", "memory_limit": 10**6}],
    ids=["weakest", "history"],
)
def test_a_saved_model_goes_on(tmp_path, arguments):
    model = trained(rbd(**arguments), epochs=1)
    path = str(tmp_path / f"model{SUFFIX}")
    model.save(path)
    model = keras.models.load_model(path)
    model.run_eagerly = True
    x, y = data()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert_equal(model, trained(rbd(**arguments), epochs=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_fraction": 0}, r"keep_fraction=0 must be a number in \(0, 1\]"),
        ({"redraw_fraction": 1.5}, r"redraw_fraction=1.5 must be a number in \(0, 1\]"),
        ({"redraw_fraction": 0.5, "redraw_every": None}, "redraw_every=None, which never redraws"),
        ({"redraw_fraction": 0.5, "replicas": "split"}, "allows replicas='shared' only, not 'split'"),
        (
            {"keep_fraction": 0.5, "replicas": "split", "exchange": "updates"},
            'exchange="updates" allows keep_fraction=1 only, not 0.5',
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rbd(**arguments)


def test_bases_drawn_as_a_whole_are_refused():
    optimizer = rbd(basis="hadamard", redraw_fraction=0.5)
    with pytest.raises(ValueError, match="redraw_fraction=0.5 needs directions .* not basis='hadamard'"):
        build_optimizer(optimizer, dense_model().trainable_variables)
