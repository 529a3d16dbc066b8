"""Error feedback: the recursion against NumPy, its conservation law, where it is sound, how it goes on."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, keras
from random_bases.optimizers.rule import RandomBasesRule
from tests.dense_reference import eagerly
from tests.optimizers.helpers import (
    apply,
    assert_close,
    assert_differ,
    assert_equal,
    compile_,
    data,
    dense_model,
    fit,
    flat,
    gradients,
    matrix,
    needs_keras,
    scaled_step,
    stepped,
    trained,
    values,
)

D = 64  # parameters of `dense_model`
SHAPES = [(5, 6), (6,), (6, 4), (4,)]


def descent(inner=None, **arguments):
    arguments = {"dimensions": 8, "basis": "hadamard", "seed": 3, "error_feedback": True, **arguments}
    return rb.RandomBasesDescent(keras.optimizers.SGD(0.5) if inner is None else inner, **arguments)


def built(**arguments):
    """A rule with its memory, without Keras."""
    arguments = {"dimensions": 8, "basis": "hadamard", "seed": 3, "error_feedback": True, **arguments}
    rule = RandomBasesRule(**arguments)
    rule.build(SHAPES, ["a/kernel", "a/bias", "b/kernel", "b/bias"])
    rule.make_state(lambda spec: tf.Variable(tf.zeros(spec.shape, spec.dtype)))
    return rule


def example(seed):
    rng = np.random.RandomState(seed)
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES]


def memory(rule):
    return flat(values(rule.directions.state))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"error_feedback": 0.5},
        {"basis": "rademacher"},
        {"redraw_every": 3},
        {"compartments": "layer"},
        {"dimensions": D, "redraw_every": None, "keep_fraction": 0.25},
        {"keep_fraction": 0.5},
    ],
    ids=str,
)
def test_the_recursion_against_numpy(arguments):
    rule = built(**arguments)
    leak = float(rule.error_feedback)
    e = np.zeros(D)
    for step in range(7):
        with eagerly():
            update = rule(example(step), tf.constant(step))
        p = matrix(rule, step // rule.redraw_every if rule.redraw_every else 0)
        e = leak * e + flat(example(step))
        c = p.T @ e
        if rule.keep_fraction < 1:
            c[np.argsort(np.abs(c))[: len(c) - round(rule.keep_fraction * len(c))]] = 0
        np.testing.assert_allclose(flat(update), p @ c, atol=2e-5)
        e = e - p @ c
        np.testing.assert_allclose(memory(rule), e, atol=2e-5)


@pytest.mark.parametrize("basis", ["hadamard", "normal", "sparse"])
def test_nothing_is_lost(basis):
    """The updates of all steps and the memory add up to all gradients, whatever the basis."""
    rule = built(basis=basis)
    moved, seen = np.zeros(D), np.zeros(D)
    with eagerly():
        for step in range(20):
            moved += flat(rule(example(step), tf.constant(step)))
            seen += flat(example(step))
    assert np.abs(memory(rule)).max() > 0.1
    np.testing.assert_allclose(moved + memory(rule), seen, atol=1e-4)


@pytest.mark.parametrize(
    ("basis", "dimensions", "redraw_every"),
    [
        ("hadamard", 8, 1),
        ("hadamard", 8, 5),
        *((basis, dimensions, 1) for basis in ("normal", "sparse") for dimensions in (8, 31)),
    ],
)
def test_the_memory_stays_bounded(basis, dimensions, redraw_every):
    """With the same gradient of length 1 again and again it is about n / d times `redraw_every` long."""
    rule = built(basis=basis, dimensions=dimensions, redraw_every=redraw_every)
    gradient = [g / np.linalg.norm(flat(example(0))) for g in example(0)]
    run = tf.function(lambda step: rule(gradient, step))
    lengths = []
    for step in range(300):
        run(tf.constant(step))
        lengths.append(np.linalg.norm(memory(rule)))
    assert max(lengths) < 3 * redraw_every * D / dimensions
    assert np.mean(lengths[-100:]) < 1.3 * np.mean(lengths[100:200])


@pytest.mark.parametrize(
    ("decay", "redraw_every"), [(0, 1), (1, 1), (1, 4)], ids=["equal curvatures", "falling ones", "redrawn"]
)
def test_the_bound_of_the_learning_rate(decay, redraw_every):
    """On a quadratic with Hessian H it is about d / tr(H) / redraw_every, whatever the spectrum."""
    curvatures = np.float32(np.arange(1, D + 1) ** -float(decay))
    rule = RandomBasesRule(4, basis="hadamard", seed=1, error_feedback=True, redraw_every=redraw_every)
    rule.build([(D,)], ["x"])
    rule.make_state(lambda spec: tf.Variable(tf.zeros(spec.shape)))
    x = tf.Variable(tf.ones([D]))

    @tf.function
    def steps(rate, count):
        for step in tf.range(count):
            (update,) = rule([curvatures * x], step)
            x.assign_sub(rate * update)

    def reached(times):
        x.assign(tf.ones([D]))
        rule.directions.state[0].assign(tf.zeros([D]))
        rate = times * 4 / curvatures.sum() / redraw_every
        steps(tf.constant(rate, tf.float32), tf.constant(1000 * redraw_every))
        return float(tf.reduce_sum(curvatures * x**2)) / curvatures.sum()

    assert reached(0.4) < 0.1
    assert not reached(3.0) < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"redraw_every": None}, "error_feedback with redraw_every=None: the same 8 of 64 directions"),
        ({"basis": "normal", "dimensions": 32}, "which is not orthonormal.* at most 31 of 64"),
        ({"basis": "normal", "redraw_every": 2}, "not orthonormal, and redraw_every=2"),
        ({"basis": "fastfood"}, "not of independent entries either"),
        ({"basis": rb.bases.OrthogonalBasis(D, 8, block=4)}, "not of independent entries either"),
        ({"basis": "bernoulli-2020"}, "entries of mean 0, not -0.5"),
        (
            {"basis": rb.bases.get("sparse", D, 8, density=1 / D)},
            "at most 1 of 64 dimensions for their kurtosis of 64",
        ),
        (
            {"basis": rb.bases.TrajectoryBasis(D, 8, np.eye(8, D, dtype=np.float32))},
            "error_feedback with basis=Traj",
        ),
    ],
    ids=str,
)
def test_a_memory_that_would_grow_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        built(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"error_feedback": 0}, ValueError, r"error_feedback=0 must be True, False or a number in \(0, 1\]"),
        ({"error_feedback": 1.5}, ValueError, "error_feedback=1.5 must be"),
        ({"error_feedback": "yes"}, TypeError, "error_feedback='yes' must be"),
        ({"error_feedback": None}, TypeError, "error_feedback=None must be"),
        (
            {"basis": "normal", "redraw_fraction": 0.5},
            ValueError,
            "allows error_feedback=False",
        ),
        (
            {"keep_fraction": 0.5, "replicas": "split"},
            ValueError,
            "replicas='shared' only, not 'split'",
        ),
        ({"basis": "history", "memory_limit": 2**20}, ValueError, "allows error_feedback=False only"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        descent(**arguments)


def test_what_has_no_gradient_keeps_its_memory():
    rule = built()
    with eagerly():
        rule(example(0), tf.constant(0))
        before = values(rule.directions.state)
        grads = [None, *example(1)[1:]]
        update = rule(grads, tf.constant(1))
    assert update[0] is None
    np.testing.assert_array_equal(rule.directions.state[0].numpy(), before[0])
    e = flat(before) + flat([tf.zeros(SHAPES[0]), *grads[1:]])
    e[:30] = 0  # in the projection it counts as zero, as does its memory
    p = matrix(rule, 1)
    u = p @ (p.T @ e)
    np.testing.assert_allclose(flat(update[1:]), u[30:], atol=1e-5)
    np.testing.assert_allclose(memory(rule)[30:], (e - u)[30:], atol=1e-5)


def test_gradients_that_are_not_finite_are_not_remembered():
    rule = built()
    with eagerly():
        rule(example(0), tf.constant(0))
        before = memory(rule)
        rule([tf.fill(shape, np.inf) for shape in SHAPES], tf.constant(1))
    np.testing.assert_array_equal(memory(rule), before)


def test_a_part_that_is_not_finite_is_not_remembered_where_few_coordinates_are_kept():
    rule = built(compartments="layer", keep_fraction=0.25)
    with eagerly():
        rule(example(0), tf.constant(0))
        before = memory(rule)
        rule([tf.fill(SHAPES[0], np.nan), *example(1)[1:]], tf.constant(1))
    np.testing.assert_array_equal(memory(rule), before)


# --- In Keras -------------------------------------------------------------------------------------


def test_with_all_directions_it_is_the_inner_optimizer():
    model = stepped(descent(dimensions=D))
    assert_close(model, stepped(keras.optimizers.SGD(0.5)), 1e-5)


def test_clipping_inside_leaves_the_memory_as_it_is():
    """What the inner optimizer makes of an update is its own affair."""
    free, clipped = descent(), descent(keras.optimizers.SGD(0.5, clipvalue=0.01))
    models = stepped(free), stepped(clipped)
    assert_differ(*models)
    np.testing.assert_array_equal(memory(free.rule), memory(clipped.rule))


@needs_keras((3, 0), "gradient accumulation")
def test_micro_batches_are_remembered_as_their_mean():
    once, micro = dense_model(), dense_model()
    whole = descent()
    accumulated = descent(keras.optimizers.SGD(0.5, gradient_accumulation_steps=2))
    for update in range(3):
        grads = [gradients(once.trainable_variables, seed=2 * update + i) for i in range(2)]
        for each in grads:
            apply(accumulated, each, micro.trainable_variables)
        apply(whole, [(a + b) / 2 for a, b in zip(*grads)], once.trainable_variables)
    assert_close(micro, once, 1e-6)
    np.testing.assert_allclose(memory(accumulated.rule), memory(whole.rule), atol=1e-5)


def test_a_step_that_overflows_under_a_loss_scale_is_not_remembered():
    model, inside = dense_model(), descent()
    outer = keras.mixed_precision.LossScaleOptimizer(inside)
    grads = gradients(model.trainable_variables)
    scaled_step(outer, grads, model.trainable_variables)
    before, weights = memory(inside.rule), model.get_weights()
    scaled_step(outer, [grads[0] * np.inf, *grads[1:]], model.trainable_variables)
    np.testing.assert_array_equal(memory(inside.rule), before)
    for now, then in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(now, then)


def test_in_mixed_precision_the_memory_is_float32_and_all_arrives():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        fewer = trained(descent())
        models = trained(descent(dimensions=D)), trained(keras.optimizers.SGD(0.5))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert_close(*models, 1e-5)
    assert_differ(fewer, models[0])
    state = fewer.optimizer.inner_optimizer.rule.directions.state
    assert {tf.as_dtype(variable.dtype) for variable in state} == {tf.float32}
    assert 0.01 < np.abs(flat(values(state))).max() < 10  # of gradients without the loss scale


def test_it_arrives_where_plain_descent_does_not():
    """The mean of squares with SGD's own learning rate: 40 epochs with 8 of 64 directions."""

    def loss(optimizer):
        return trained(optimizer, "graph", epochs=40).evaluate(*data(), verbose=0)

    sgd, with_memory, without = (
        loss(keras.optimizers.SGD(0.1)),
        loss(descent(keras.optimizers.SGD(0.1))),
        loss(descent(keras.optimizers.SGD(0.1), error_feedback=False)),
    )
    assert abs(with_memory - sgd) < 0.2 * abs(without - sgd)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compiled_is_as_eager(mode):
    if mode == "xla" and GENERATION == "keras2.6":
        pytest.skip("Keras 2.6 does not compile steps as a whole")
    model = trained(descent(), mode)
    assert_close(model, trained(descent(), "eager"), 2e-5)
    assert_differ(model, trained(descent(error_feedback=False), "eager"))


@pytest.mark.parametrize(
    "inner", [lambda: keras.optimizers.SGD(0.1, momentum=0.9), lambda: keras.optimizers.Adam(0.01)]
)
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path, inner):
    def steps(model, optimizer, some):
        for step in some:
            apply(optimizer, gradients(model.trainable_variables, seed=step), model.trainable_variables)

    whole, optimizer = dense_model(), descent(inner())
    steps(whole, optimizer, range(6))

    first, optimizer = dense_model(), descent(inner())
    steps(first, optimizer, range(3))
    path = tf.train.Checkpoint(model=first, optimizer=optimizer).save(str(tmp_path / "ckpt"))
    second, optimizer = dense_model(seed=1), descent(inner())
    rb.keras_api.build_optimizer(optimizer, second.trainable_variables)
    tf.train.Checkpoint(model=second, optimizer=optimizer).restore(path).assert_consumed()
    steps(second, optimizer, range(3, 6))
    assert_equal(second, whole)


def test_a_saved_model_goes_on_bit_for_bit(tmp_path):
    whole = trained(descent(), epochs=2)
    half = trained(descent(), epochs=1)
    path = str(tmp_path / ("model.h5" if GENERATION == "keras2.6" else "model.keras"))
    half.save(path)
    loaded = keras.models.load_model(path)
    assert loaded.optimizer.rule.error_feedback is True
    loaded.run_eagerly = True
    fit(loaded, epochs=1)
    assert_equal(loaded, whole)


def test_coordinates_still_tell_the_weights(tmp_path):
    model = dense_model()
    compile_(model, descent(), "graph")
    fit(model, callbacks=[rb.ReplayLog(tmp_path / "log")])
    again = dense_model()
    rb.replay(tmp_path / "log", again)
    assert_equal(again, model)


def test_sparse_gradients():
    rule = RandomBasesRule(4, basis="hadamard", seed=1, error_feedback=True)
    rule.build([(10, 4)], ["embedding"])
    rule.make_state(lambda spec: tf.Variable(tf.zeros(spec.shape)))
    slices = tf.IndexedSlices(tf.ones([3, 4]), tf.constant([2, 7, 2]), tf.constant([10, 4]))
    dense = np.zeros((10, 4))
    np.add.at(dense, [2, 7, 2], 1.0)
    (update,) = rule([slices], tf.constant(0))
    p = matrix(rule, 0)
    np.testing.assert_allclose(flat([update]), p @ (p.T @ dense.ravel()), atol=1e-5)
    np.testing.assert_allclose(memory(rule), dense.ravel() - flat([update]), atol=1e-5)
