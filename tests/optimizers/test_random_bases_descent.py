"""`RandomBasesDescent` inside Keras: the mathematics of its steps, and everything that Keras does around."""

import contextlib
import copy
import json
import random

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, KERAS_VERSION, build_optimizer, keras, set_random_seed
from random_bases.optimizers.directions import Redraws
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
    number,
    scaled_step,
    stepped,
    trained,
    values,
)

SGD = keras.optimizers.SGD
Adam = keras.optimizers.Adam
RBD = rb.RandomBasesDescent
LossScaleOptimizer = keras.mixed_precision.LossScaleOptimizer
ALL = 64  # parameters of `dense_model`

has_ema = needs_keras((2, 11), "moving averages of weights")
has_decay = needs_keras((2, 11), "weight_decay")
has_jit_compile = needs_keras((2, 11), "compile(jit_compile=)")
has_accumulation = needs_keras((3, 0), "gradient accumulation")
has_loss_scale_factor = needs_keras((3, 0), "loss_scale_factor")


def few(inner=None, **arguments):
    """Few, cheap directions: for what does not depend on the basis."""
    arguments = {"dimensions": 5, "basis": "rademacher", "seed": 3, **arguments}
    return RBD(SGD(0.5) if inner is None else inner, **arguments)


def full(inner, **arguments):
    """An orthonormal basis of all dimensions: P P^T = I."""
    return RBD(inner, dimensions=ALL, basis="hadamard", seed=3, **arguments)


# --- One step, and which basis it uses ----------------------------------------------------------


@pytest.mark.parametrize("compartments", ["network", "layer", "variable", 3])
@pytest.mark.parametrize("basis", ["normal", "hadamard", "rademacher"])
def test_one_step_is_minus_lr_p_p_transposed_g(basis, compartments):
    variables = dense_model().trainable_variables
    optimizer = RBD(SGD(0.25), dimensions=13, basis=basis, compartments=compartments, seed=5)
    grads, before = gradients(variables), flat(values(variables))
    # Subspaces have tests of their own: here only the first is worth compiling.
    with contextlib.ExitStack() as stack:
        if compartments != "network":
            stack.enter_context(eagerly())
        apply(optimizer, grads, variables)
    p = matrix(optimizer.rule, draw=0)
    assert p.shape == (ALL, 13)
    expected = before - 0.25 * p @ (p.T @ flat(grads))
    np.testing.assert_allclose(flat(values(variables)), expected, rtol=0, atol=1e-5)


def test_compartments_have_bases_of_their_own():
    optimizer = RBD(SGD(1.0), dimensions=13, compartments="layer", seed=5)
    build_optimizer(optimizer, dense_model().trainable_variables)
    p = matrix(optimizer.rule, draw=0)
    assert not p[:36, 7:].any() and not p[36:, :7].any()
    assert p[:36, :7].all() and p[36:, 7:].all()


@pytest.mark.parametrize("redraw_every", [1, 3, None])
def test_draws_advance_with_updates(redraw_every):
    variables = dense_model().trainable_variables
    optimizer = few(redraw_every=redraw_every)
    expected = flat(values(variables))
    for t in range(7):
        grads = gradients(variables, seed=t)
        assert int(optimizer.iterations) == t
        apply(optimizer, grads, variables)
        p = matrix(optimizer.rule, draw=0 if redraw_every is None else t // redraw_every)
        expected -= 0.5 * p @ (p.T @ flat(grads))
        np.testing.assert_allclose(flat(values(variables)), expected, rtol=0, atol=1e-5)


def outside(optimizer, epochs=4):
    """What part of the way a model goes lies outside theta0 + span(P of draw 0)."""
    moved = flat(trained(optimizer, epochs=epochs).get_weights()) - flat(dense_model().get_weights())
    p = matrix(optimizer.rule, draw=0)
    inside = p @ np.linalg.lstsq(p, moved, rcond=None)[0]
    return np.linalg.norm(moved - inside) / np.linalg.norm(moved)


@pytest.mark.parametrize("basis", ["normal", "hadamard"])
def test_a_fixed_basis_is_not_left(basis):
    assert outside(few(SGD(0.1, momentum=0.9), basis=basis, redraw_every=None)) < 1e-5


def test_redrawn_bases_leave_the_first():
    assert outside(few(redraw_every=1), epochs=1) > 0.3


def test_adaptive_optimizers_leave_a_fixed_basis():
    # The docstring says so. If this fails, correct it.
    assert outside(few(Adam(0.01), redraw_every=None), epochs=1) > 0.1


def test_equal_seeds_give_equal_runs_bit_for_bit():
    first = stepped(few(Adam(0.1), seed=0))
    assert_equal(stepped(few(Adam(0.1), seed=0)), first)
    for other in (1, 2**32, 2**64 - 1):
        assert_differ(stepped(few(Adam(0.1), seed=other)), first)


def test_without_a_seed_one_is_drawn_and_recorded():
    random.seed(11)
    optimizer = few(seed=None)
    assert optimizer.seed != few(seed=None).seed
    random.seed(11)
    assert optimizer.seed == few(seed=None).seed
    config = optimizer.get_config()
    assert config["seed"] == optimizer.seed
    assert_equal(stepped(optimizer), stepped(RBD.from_config(config)))


@needs_keras((2, 11), "keras.utils.set_random_seed")
def test_keras_seeds_the_drawing_of_seeds():
    keras.utils.set_random_seed(4)
    seed = few(seed=None).seed
    keras.utils.set_random_seed(4)
    assert few(seed=None).seed == seed


# --- All dimensions: the inner optimizer itself --------------------------------------------------


INNER = {
    "sgd": lambda: SGD(0.3),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.03),
    "amsgrad": lambda: Adam(0.03, amsgrad=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "clipnorm": lambda: SGD(0.3, momentum=0.5, clipnorm=0.1),
    "clipvalue": lambda: SGD(0.3, momentum=0.5, clipvalue=0.02),
    "global_clipnorm": lambda: SGD(0.3, momentum=0.5, global_clipnorm=0.1),
    "schedule": lambda: SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5), momentum=0.9),
}
NEWER_INNER = {
    "adamw": lambda: keras.optimizers.AdamW(0.03, weight_decay=0.1),
    "weight_decay": lambda: SGD(0.1, momentum=0.9, weight_decay=0.2),
    "ema": lambda: SGD(0.3, use_ema=True, ema_momentum=0.7),
    "ema_overwrite": lambda: Adam(0.03, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=3),
}
NEWEST_INNER = {"loss_scale_factor": lambda: SGD(0.3, momentum=0.9, loss_scale_factor=1024.0)}


@pytest.mark.parametrize(
    "inner",
    [
        *(pytest.param(make, id=name) for name, make in INNER.items()),
        *(pytest.param(make, id=name, marks=has_decay) for name, make in NEWER_INNER.items()),
        *(pytest.param(make, id=name, marks=has_loss_scale_factor) for name, make in NEWEST_INNER.items()),
    ],
)
def test_with_all_dimensions_it_is_the_inner_optimizer(inner):
    plain, wrapped = trained(inner()), trained(full(inner()))
    assert_close(wrapped, plain)
    assert_differ(wrapped, dense_model())


@pytest.mark.parametrize(
    ("inner", "mode"),
    [
        pytest.param(INNER["momentum"], "graph", id="momentum graph"),
        pytest.param(NEWER_INNER["adamw"], "graph", id="adamw graph", marks=has_decay),
        pytest.param(INNER["adam"], "xla", id="adam xla", marks=has_jit_compile),
    ],
)
def test_with_all_dimensions_it_is_the_inner_optimizer_compiled(inner, mode):
    assert_close(trained(full(inner()), mode), trained(inner(), mode))


def conv_model():
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(3, 2, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


def recurrent_model():
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(7, 3),
            keras.layers.LSTM(2),
            keras.layers.Dense(1),
        ]
    )


def branched_model():
    """One layer used twice, two outputs, and a frozen layer."""
    x = keras.Input((4,))
    shared = keras.layers.Dense(4, activation="tanh", name="shared")
    frozen = keras.layers.Dense(4, name="frozen", trainable=False)
    h = shared(frozen(shared(x)))
    return keras.Model(x, [keras.layers.Dense(1, name="one")(h), keras.layers.Dense(2, name="two")(h)])


def conv_data():
    return data((4, 4, 2), (2,))


def recurrent_data():
    rng = np.random.RandomState(0)
    return rng.randint(0, 7, (32, 3)).astype(np.int32), rng.normal(size=(32, 1)).astype(np.float32)


def branched_data():
    x, y = data((4,), (3,))
    return x, [y[:, :1], y[:, 1:]]


@pytest.mark.parametrize(
    ("build", "xy", "mode"),
    [
        pytest.param(conv_model, conv_data, "default", id="conv and batch normalisation"),
        pytest.param(recurrent_model, recurrent_data, "default", id="embedding and lstm"),
        pytest.param(branched_model, branched_data, "eager", id="shared, two outputs, frozen"),
    ],
)
def test_with_all_dimensions_any_model_trains_as_with_the_inner_optimizer(build, xy, mode):
    def run(wrap):
        set_random_seed(1)
        model = build()
        frozen = values(model.non_trainable_variables)
        optimizer = SGD(0.1, momentum=0.9)
        if wrap:
            size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
            optimizer = RBD(optimizer, dimensions=size, basis="hadamard", seed=0)
        outputs = len(model.outputs)
        compile_(model, optimizer, mode, loss="mse" if outputs == 1 else ["mse"] * outputs)
        fit(model, xy=xy())
        if build is branched_model:
            # What is frozen does not move, and takes no dimensions.
            assert len(frozen) == 2
            for a, b in zip(frozen, values(model.non_trainable_variables)):
                np.testing.assert_array_equal(a, b)
        return model

    assert_close(run(True), run(False), 1e-4)


# --- Gradients that are missing ------------------------------------------------------------------


def test_a_variable_without_gradient_stays_and_the_others_move_as_if_it_were_zero():
    variables = dense_model().trainable_variables
    # Momentum: its first step is as without, and a variable that is not moved gets no momentum.
    optimizer = few(SGD(0.5, momentum=0.9))
    grads, before = gradients(variables), values(variables)
    apply(optimizer, [grads[0], None, grads[2], None], variables)
    p = matrix(optimizer.rule, draw=0)
    zeros = [grads[0], np.zeros(6), grads[2], np.zeros(4)]
    update = np.split(-0.5 * p @ (p.T @ flat(zeros)), np.cumsum([30, 6, 24]))
    for i in (0, 2):
        np.testing.assert_allclose(flat([values(variables)[i]]), flat([before[i]]) + update[i], atol=1e-5)
    for i in (1, 3):
        np.testing.assert_array_equal(values(variables)[i], before[i])
    # Another one may be missing the next time.
    apply(optimizer, [None, grads[1], None, None], variables)
    assert not np.array_equal(values(variables)[1], before[1])


def test_no_gradients_at_all_are_the_error_that_keras_makes_of_it():
    variables = dense_model().trainable_variables
    for optimizer in (SGD(0.5), few()):
        with pytest.raises(ValueError, match="No gradients provided for any variable"):
            apply(optimizer, [None] * 4, variables)


def off_path_model():
    """Layer "off" is not on the path to the loss."""
    set_random_seed(2)
    x = keras.Input((5,))
    h = keras.layers.Dense(3, name="on")(x)
    return keras.Model(x, [keras.layers.Dense(4, name="out")(h), keras.layers.Dense(2, name="off")(h)])


@pytest.mark.parametrize(("mode", "scaled"), [("eager", False), ("graph", True)])
def test_a_layer_off_the_path_to_the_loss(mode, scaled):
    model = off_path_model()
    optimizer = few(SGD(0.5))
    before = model.get_weights()
    compile_(model, LossScaleOptimizer(optimizer) if scaled else optimizer, mode, loss=["mse", None])
    x, y = data()
    # Keras 2 wants something for the output that has no loss.
    fit(model, epochs=1, xy=(x, [y, np.zeros((32, 2), np.float32)]))
    # The subspace has all 42 parameters: 18 "on", 16 "out" and 8 "off".
    assert optimizer.rule.subspace.size == 42
    for a, b in zip(before, model.get_weights()):
        if a.shape[-1] == 2:
            np.testing.assert_array_equal(a, b)
        else:
            assert not np.array_equal(a, b)


# --- Sparse gradients ------------------------------------------------------------------------------


def sparse_gradients(variables, rows=(1, 4, 1)):
    """The first one sparse, with a repeated row; and the same dense."""
    grads = gradients(variables)
    slices = np.random.RandomState(5).normal(size=(3, 6)).astype(np.float32)
    dense = np.zeros((5, 6), np.float32)
    np.add.at(dense, list(rows), slices)
    sparse = tf.IndexedSlices(tf.constant(slices), tf.constant(rows), tf.constant([5, 6]))
    return [sparse, *grads[1:]], [tf.constant(dense), *grads[1:]]


@pytest.mark.parametrize("inner", [lambda: SGD(0.5, momentum=0.9), lambda: Adam(0.1, clipnorm=0.1)])
def test_sparse_gradients_move_as_dense_ones(inner):
    sparse, dense = dense_model(), dense_model()
    for model, which in ((sparse, 0), (dense, 1)):
        optimizer = few(inner())
        variables = model.trainable_variables
        for _ in range(2):
            apply(optimizer, sparse_gradients(variables)[which], variables)
    assert_close(sparse, dense, 1e-6)


# --- Gradient accumulation (Keras 3) ---------------------------------------------------------------


@has_accumulation
def test_micro_batches_make_one_step_on_the_mean_gradient_with_one_draw():
    accumulated, once = dense_model(), dense_model()
    optimizer = few(Adam(0.1, gradient_accumulation_steps=3))
    whole = few(Adam(0.1))
    draws = []
    for update in range(2):
        micro = [gradients(once.trainable_variables, seed=3 * update + k) for k in range(3)]
        for grads in micro:
            before = accumulated.get_weights()
            draws.append(int(Redraws(1).draw(optimizer.iterations)))
            apply(optimizer, grads, accumulated.trainable_variables)
            if grads is not micro[-1]:
                for a, b in zip(before, accumulated.get_weights()):
                    np.testing.assert_array_equal(a, b)
        apply(whole, [sum(g) / 3 for g in zip(*micro)], once.trainable_variables)
        assert_close(accumulated, once, 1e-6)
    assert draws == [0, 0, 0, 1, 1, 1]
    assert int(optimizer.iterations) == 2


@has_accumulation
def test_accumulation_with_all_dimensions_is_that_of_keras():
    def inner():
        return Adam(0.1, gradient_accumulation_steps=2, global_clipnorm=0.1, weight_decay=0.1)

    assert_close(trained(full(inner()), "default"), trained(inner(), "default"))


@has_accumulation
def test_accumulation_survives_the_configuration():
    optimizer = few(SGD(0.5, gradient_accumulation_steps=4))
    for _ in range(2):
        optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert optimizer.gradient_accumulation_steps == 4
        assert optimizer.inner_optimizer.gradient_accumulation_steps is None


@has_accumulation
def test_sparse_and_missing_gradients_accumulate():
    sparse, dense = dense_model(), dense_model()
    for model, which in ((sparse, 0), (dense, 1)):
        optimizer = few(SGD(0.5, gradient_accumulation_steps=2))
        variables = model.trainable_variables
        before = values(variables)
        for _ in range(4):
            grads = sparse_gradients(variables)[which]
            apply(optimizer, [grads[0], None, *grads[2:]], variables)
        np.testing.assert_array_equal(values(variables)[1], before[1])
    assert_close(sparse, dense, 1e-6)
    assert_differ(sparse, dense_model())


@has_accumulation
def test_with_accumulation_schedules_and_averages_count_updates():
    # As a run with larger batches would. Keras's own accumulation counts micro-batches.
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    accumulated, once = dense_model(), dense_model()
    arguments = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
    optimizer = few(SGD(schedule, gradient_accumulation_steps=2, **arguments))
    whole = few(SGD(schedule, **arguments))
    for update in range(4):
        grads = gradients(once.trainable_variables, seed=update)
        for _ in range(2):
            apply(optimizer, grads, accumulated.trainable_variables)
        apply(whole, grads, once.trainable_variables)
    assert_close(accumulated, once, 1e-6)


# --- Mixed precision ---------------------------------------------------------------------------------


@pytest.fixture
def policy():
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy("float32")


def test_keras_puts_loss_scaling_outside(policy):
    exact = trained(few())
    policy("mixed_float16")
    model = trained(few(), "graph")
    assert isinstance(model.optimizer, LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, RBD)
    assert int(model.optimizer.iterations) == 8
    assert_close(model, exact, 0.01)
    assert_differ(model, dense_model(), by=0.05)


def test_inside_loss_scaling_finite_steps_are_the_same():
    plain, scaled = dense_model(), dense_model()
    inside = few()
    optimizer, outer = few(), LossScaleOptimizer(inside)
    for t in range(3):
        grads = gradients(plain.trainable_variables, seed=t)
        apply(optimizer, grads, plain.trainable_variables)
        scaled_step(outer, grads, scaled.trainable_variables)
    # Scales are powers of two: nothing is rounded.
    assert_equal(plain, scaled)
    assert int(outer.iterations) == int(inside.iterations) == 3


def test_inside_loss_scaling_a_step_that_overflows_is_skipped():
    skipping, plain = dense_model(), dense_model()
    outer, optimizer = LossScaleOptimizer(few(Adam(0.1))), few(Adam(0.1))
    grads = gradients(plain.trainable_variables)
    infinite = [grads[0] * np.inf, *grads[1:]]
    scaled_step(outer, grads, skipping.trainable_variables)
    apply(optimizer, grads, plain.trainable_variables)
    assert_equal(skipping, plain)
    scaled_step(outer, infinite, skipping.trainable_variables)
    assert_equal(skipping, plain)
    if KERAS_VERSION >= (3, 0):
        # The draw neither: the next step is as if there had been no overflow. Keras 2 counts the step.
        assert int(outer.iterations) == 1
        scaled_step(outer, grads, skipping.trainable_variables)
        apply(optimizer, grads, plain.trainable_variables)
        assert_equal(skipping, plain)


@has_loss_scale_factor
def test_inside_loss_scaling_a_loss_scale_factor_has_no_effect():
    # Keras says so of the optimizer that LossScaleOptimizer wraps.
    plain, scaled = dense_model(), dense_model()
    grads = gradients(plain.trainable_variables)
    apply(few(), grads, plain.trainable_variables)
    outer = LossScaleOptimizer(few(SGD(0.5, loss_scale_factor=8.0)))
    scaled_step(outer, grads, scaled.trainable_variables)
    assert_equal(plain, scaled)


def test_bfloat16(policy):
    exact = trained(few())
    policy("mixed_bfloat16")
    model = trained(few(), "graph")
    assert isinstance(model.optimizer, RBD)
    assert_close(model, exact, 0.05)


def test_loss_scaling_inside_is_refused():
    with pytest.raises(ValueError, match="put it outside"):
        few(LossScaleOptimizer(SGD(0.5)))


# --- How Keras runs the step -------------------------------------------------------------------------


def test_however_the_step_runs_the_weights_are_the_same():
    def run(mode, **arguments):
        return trained(few(SGD(0.3, momentum=0.9), redraw_every=2), mode, **arguments)

    eager = run("eager")
    assert_differ(eager, dense_model())
    assert_close(run("graph", steps_per_execution=4), eager, 1e-6)
    assert_close(run("default"), eager, 1e-6)
    if GENERATION != "keras2.6":
        assert_close(run("xla"), eager, 1e-6)


def test_one_step_is_bit_for_bit_the_same_in_a_graph():
    # With given gradients, of which a graph's kernels would compute other roundings.
    def run(wrap):
        model = dense_model()
        variables = model.trainable_variables
        optimizer = few(basis="normal")
        build_optimizer(optimizer, variables)

        def step():
            apply(optimizer, gradients(variables), variables)

        step = wrap(step)
        for _ in range(3):
            step()
        return model

    assert_equal(run(tf.function), run(lambda step: step))


def test_a_custom_loop_may_leave_variables_out():
    model, other = dense_model(), dense_model()
    optimizer, zeros = few(), few()
    for m, o in ((model, optimizer), (other, zeros)):
        build_optimizer(o, m.trainable_variables)
    grads = gradients(model.trainable_variables)
    apply(optimizer, grads[1:3], model.trainable_variables[1:3])
    apply(zeros, [tf.zeros((5, 6)), *grads[1:3], tf.zeros(4)], other.trainable_variables)
    for i in (1, 2):
        np.testing.assert_array_equal(values(model.variables)[i], values(other.variables)[i])
    for i in (0, 3):
        np.testing.assert_array_equal(values(model.variables)[i], values(dense_model().variables)[i])


def test_tf_variables():
    kernel, bias = tf.Variable(tf.ones((3, 4)), name="a/kernel"), tf.Variable(tf.ones(4), name="a/bias")
    optimizer = RBD(SGD(0.5), dimensions=6, basis="rademacher", compartments="layer", seed=0)
    grads = gradients([kernel, bias])
    apply(optimizer, grads, [kernel, bias])
    p = matrix(optimizer.rule, draw=0)
    expected = 1 - 0.5 * p @ (p.T @ flat(grads))
    np.testing.assert_allclose(flat(values([kernel, bias])), expected, atol=1e-5)


def test_constraints_hold():
    set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(4, kernel_constraint=keras.constraints.MaxNorm(0.5))]
    )
    compile_(model, few(SGD(3.0)))
    fit(model)
    norms = np.linalg.norm(model.get_weights()[0], axis=0)
    assert norms.max() <= 0.5 + 1e-6


class Half(keras.constraints.Constraint):
    """Twice is not once."""

    def __call__(self, w):
        return 0.5 * w


def test_constraints_are_applied_once_a_step():
    def final(optimizer):
        set_random_seed(0)
        layer = keras.layers.Dense(4, kernel_constraint=Half(), bias_initializer="random_normal")
        model = keras.Sequential([keras.Input((5,)), layer])
        compile_(model, optimizer)
        fit(model, epochs=1)
        return model.get_weights()

    every = RBD(SGD(0.1), dimensions=24, basis="hadamard", seed=0)
    for ours, plain in zip(final(every), final(SGD(0.1))):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


# --- Learning rate, callbacks, moving averages -------------------------------------------------------


def test_there_is_one_learning_rate():
    optimizer = few(SGD(0.25))
    inner = optimizer.inner_optimizer
    assert number(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.5
    assert number(inner.learning_rate) == 0.5
    inner.learning_rate = 0.125
    assert number(optimizer.learning_rate) == 0.125
    assert float(optimizer.get_config()["inner_optimizer"]["config"]["learning_rate"]) == 0.125
    if GENERATION != "keras3":
        optimizer.lr = 0.75
        assert number(inner.lr) == 0.75


def test_a_learning_rate_set_on_the_wrapper_is_used():
    model, other = dense_model(), dense_model()
    optimizer = few(SGD(0.25))
    optimizer.learning_rate = 0.5
    grads = gradients(model.trainable_variables)
    apply(optimizer, grads, model.trainable_variables)
    apply(few(SGD(0.5)), grads, other.trainable_variables)
    assert_equal(model, other)


def test_schedules_count_updates():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.5, 0.25, 0.0])
    optimizer = few(SGD(schedule))
    model = dense_model()
    moved = []
    for _ in range(5):
        before = flat(model.get_weights())
        apply(optimizer, gradients(model.trainable_variables), model.trainable_variables)
        moved.append(np.abs(flat(model.get_weights()) - before).max())
    assert min(moved[:3]) > 0 and max(moved[3:]) == 0
    rate = optimizer.learning_rate
    rate = rate(optimizer.iterations) if callable(rate) else rate  # 2.6 returns the schedule
    assert number(rate) == 0.0
    assert int(optimizer.iterations) == 5


@has_decay
def test_a_scheduled_learning_rate_cannot_be_set():
    optimizer = few(SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)))
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.1


@pytest.mark.parametrize(
    "callback",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else rate),
        # Never good enough: the rate falls in every epoch from the second on.
        lambda: keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=100.0),
    ],
    ids=["LearningRateScheduler", "ReduceLROnPlateau"],
)
def test_callbacks_set_the_learning_rate(callback):
    models = [
        trained(optimizer, epochs=3, callbacks=[callback()])
        for optimizer in (SGD(0.5, momentum=0.5), full(SGD(0.5, momentum=0.5)))
    ]
    assert_close(*models)
    rates = [number(model.optimizer.learning_rate) for model in models]
    assert rates == [0.125, 0.125]


@has_ema
def test_fit_ends_with_the_moving_averages():
    optimizer = few(SGD(0.5, use_ema=True, ema_momentum=0.9))
    model = trained(optimizer)
    averages = optimizer.inner_optimizer._model_variables_moving_average
    np.testing.assert_array_equal(flat(model.get_weights()), flat(averages))
    assert_differ(model, trained(few()))


@pytest.mark.skipif(not hasattr(keras.callbacks, "SwapEMAWeights"), reason="this Keras has no SwapEMAWeights")
@pytest.mark.parametrize("mixed", [False, True])
def test_swap_ema_weights(policy, mixed):
    """The callback sees the averages through the wrapper, and through loss scaling around it."""
    if mixed:
        policy("mixed_float16")

    class Seen(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.weights = []

        def on_test_begin(self, logs=None):
            self.weights.append(self.model.get_weights())

        def on_test_end(self, logs=None):
            self.weights.append(self.model.get_weights())

    def run(wrap):
        inner = SGD(0.5, use_ema=True, ema_momentum=0.9)
        model, seen = dense_model(), Seen()
        compile_(model, full(inner) if wrap else inner)
        x, y = data()
        fit(model, validation_data=(x, y), callbacks=[keras.callbacks.SwapEMAWeights(), seen])
        return [flat(weights) for weights in seen.weights]

    wrapped, plain = run(True), run(False)
    np.testing.assert_allclose(wrapped, plain, atol=5e-3 if mixed else 1e-5)
    during, after = wrapped[:2]
    assert np.abs(during - after).max() > 1e-3


@has_decay
def test_variables_excluded_from_decay_are_those_of_the_inner_optimizer():
    def run(exclude_from):
        model = dense_model()
        optimizer = few(SGD(0.5, weight_decay=0.5))
        exclude_from(optimizer).exclude_from_weight_decay(var_names=["bias"])
        apply(optimizer, gradients(model.trainable_variables), model.trainable_variables)
        return model

    inside = run(lambda optimizer: optimizer.inner_optimizer)
    assert_equal(run(lambda optimizer: optimizer), inside)


@pytest.mark.parametrize(
    "name",
    ["clipnorm", "clipvalue", "global_clipnorm"]
    + [
        pytest.param(each, marks=has_ema)
        for each in ("weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency")
    ],
)
def test_what_the_inner_optimizer_does_is_read_and_set_on_either(name):
    value = {"use_ema": True, "ema_overwrite_frequency": 3}.get(name, 0.25)
    needed = {"use_ema": True} if name.startswith("ema") else {}
    optimizer = few(SGD(0.5, **needed, **{name: value}))
    assert getattr(optimizer, name) == value
    build_optimizer(optimizer, dense_model().trainable_variables)
    assert getattr(optimizer, name) == value
    setattr(optimizer, name, None)
    assert getattr(optimizer, name) is getattr(optimizer.inner_optimizer, name) is None


@pytest.mark.parametrize(
    "arguments", [{"clipnorm": 0.01}, pytest.param({"weight_decay": 0.5}, marks=has_decay)]
)
def test_what_is_set_later_is_done_once_and_after_the_projection(arguments):
    def run(inner, later):
        model, optimizer = dense_model(), few(inner)
        for name, value in later.items():
            setattr(optimizer, name, value)
        apply(optimizer, gradients(model.trainable_variables), model.trainable_variables)
        return model

    expected = run(SGD(0.5, **arguments), {})
    assert_equal(run(SGD(0.5, **dict.fromkeys(arguments)), arguments), expected)
    assert_differ(expected, run(SGD(0.5), {}))


@needs_keras((3, 0), "float8")
def test_what_float8_layers_keep_for_themselves_is_no_weight():
    """Keras sets scales and their history by their "gradients"; they are no part of the subspace."""

    def run(wrap):
        model = dense_model()
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dense):
                layer.quantize("float8")
        optimizer = wrap(SGD(0.5))
        model.compile(optimizer, "mse", jit_compile=False)  # Keras's float8 does not run eagerly
        fit(model)
        return model, optimizer

    plain, _ = run(lambda inner: inner)
    wrapped, optimizer = run(full)
    assert optimizer.rule.subspace.size == ALL
    assert_close(wrapped, plain)


class Counting(keras.layers.Layer):
    """Counts in a weight that was left trainable."""

    def build(self, input_shape):
        self.count = self.add_weight(name="count", shape=(3,), initializer="ones", dtype="int32")
        self.built = True

    def call(self, inputs):
        return inputs * tf.cast(self.count[0], inputs.dtype)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_trainable_integer_is_no_weight(mode):
    model = keras.Sequential([keras.Input((5,)), *dense_model().layers, Counting()])
    optimizer = full(SGD(0.5))
    compile_(model, optimizer, mode)
    before = model.get_weights()
    fit(model)
    assert optimizer.rule.subspace.size == ALL
    plain = trained(SGD(0.5))
    for weight, expected in zip(model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(weight, expected, atol=1e-5)
    np.testing.assert_array_equal(model.get_weights()[-1], before[-1])


# --- Arguments -----------------------------------------------------------------------------------------


def test_an_inner_optimizer_is_an_instance_a_name_or_a_configuration():
    expected = stepped(few(SGD(0.01)))
    assert_equal(stepped(few("sgd")), expected)
    assert_equal(stepped(few(keras.optimizers.serialize(SGD(0.01)))), expected)


@pytest.mark.parametrize(
    "legacy",
    [
        lambda: tf.compat.v1.train.GradientDescentOptimizer(0.1),
        lambda: keras.optimizers.legacy.SGD(0.1),
    ],
)
def test_optimizers_of_other_kinds_are_refused(legacy):
    with pytest.raises((AttributeError, ImportError, TypeError, ValueError)) as error:
        few(legacy())
    if GENERATION == "tf_keras":  # it gets them; Keras 3 does not, and Keras 2.6 has no second kind
        error.match("inner_optimizer=.* not a legacy one")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"inner": "sdg"}, ValueError, "sdg"),
        ({"inner": 0.1}, (TypeError, ValueError), "0.1"),
        ({"dimensions": 0}, ValueError, "dimensions=0 "),
        ({"basis": "gaussian"}, ValueError, "basis='gaussian' "),
        ({"compartments": "layers"}, ValueError, "compartments='layers' "),
        ({"allocation": "equal"}, ValueError, "allocation='equal' "),
        ({"redraw_every": 0}, ValueError, "redraw_every=0 "),
        ({"seed": "a"}, TypeError, "seed='a' "),
        ({"clipnorm": 1.0}, TypeError, r"'clipnorm'.* inner optimizer, e\.g\. .*SGD\(\.\.\., clipnorm="),
        ({"learning_rate": 1.0}, TypeError, "'learning_rate'.* inner optimizer"),
        ({"dimension": 3}, TypeError, "no argument 'dimension'"),
    ],
)
def test_what_is_not_allowed_is_refused_at_once(arguments, error, named):
    with pytest.raises(error, match=named):
        few(**arguments)


def test_numbers_may_be_of_numpy():
    arguments = {"compartments": np.array([34, 30]), "allocation": np.array([4, 5]), "keep_fraction": 0.5}
    ours = few(dimensions=np.int64(9), redraw_every=np.int32(2), seed=np.uint32(3), **arguments)
    json.dumps(ours.rule.get_config())
    plain = {"compartments": [34, 30], "allocation": [4, 5], "keep_fraction": np.float32(0.5)}
    assert_equal(stepped(ours), stepped(few(dimensions=9, redraw_every=2, seed=3, **plain)))


def test_explicit_directions():
    model = dense_model()
    before = flat(values(model.trainable_variables))
    directions = rb.bases.TrajectoryBasis.gram_schmidt(np.random.RandomState(0).normal(size=(3, ALL)))
    optimizer = RBD(SGD(0.5), dimensions=3, basis=directions, redraw_every=None)
    grads = gradients(model.trainable_variables)
    apply(optimizer, grads, model.trainable_variables)
    columns = np.stack([np.asarray(directions.expand(row, 0)) for row in np.eye(3)], axis=1)
    expected = before - 0.5 * columns @ (columns.T @ flat(grads))
    np.testing.assert_allclose(flat(values(model.trainable_variables)), expected, atol=1e-5)
    with pytest.raises(ValueError, match="stored weights"):
        optimizer.get_config()


@pytest.mark.skipif(GENERATION != "keras3", reason="Keras 2 calls apply_gradients of the inner optimizer")
def test_optimizers_with_an_apply_of_their_own_are_refused():
    class Own(SGD):
        def apply(self, grads, trainable_variables=None):
            raise AssertionError("never called")

    with pytest.raises(TypeError, match="inner_optimizer=.* overrides `apply`"):
        few(Own(0.1))


@pytest.mark.skipif(GENERATION == "tf_keras", reason="tf-keras's own optimizers cannot be copied")
def test_a_copy_makes_the_same_steps():
    optimizer = few(Adam(0.1))
    assert_equal(stepped(copy.deepcopy(optimizer)), stepped(optimizer))


def test_variables_that_were_not_there_are_refused():
    first, second = dense_model(), dense_model()
    optimizer = few()
    apply(optimizer, gradients(first.trainable_variables), first.trainable_variables)
    with pytest.raises((KeyError, ValueError), match="not one of them|nknown variable"):
        apply(optimizer, gradients(second.trainable_variables), second.trainable_variables)


def test_a_frozen_model_does_not_move():
    model = dense_model()
    model.trainable = False
    before = model.get_weights()
    compile_(model, few())
    fit(model)
    for weight, was in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, was)


@pytest.mark.parametrize("arguments", [{"dimensions": 65}, {"dimensions": 3, "compartments": "variable"}])
def test_what_does_not_fit_the_model_is_refused_when_it_is_known(arguments):
    model = dense_model()
    with pytest.raises(ValueError, match=f"dimensions={arguments['dimensions']} "):
        build_optimizer(few(**arguments), model.trainable_variables)
    compile_(model, few(**arguments))
    with pytest.raises(ValueError, match=f"dimensions={arguments['dimensions']} "):
        fit(model)


def test_the_dimensions_and_the_inner_optimizer_must_be_given():
    with pytest.raises(TypeError, match="dimensions"):
        RBD(SGD(1.0))
    with pytest.raises(TypeError, match="inner_optimizer"):
        RBD(dimensions=3)


def test_names():
    assert few().get_config()["name"] == "random_bases_descent"
    assert few(name="mine").get_config()["name"] == "mine"
    assert isinstance(few().rule, RandomBasesRule)


@pytest.mark.skipif(GENERATION != "keras3", reason="Keras 2 has no two variables of one path")
def test_the_name_is_not_the_inner_optimizers():
    with pytest.raises(ValueError, match="name='mine' is the name of inner_optimizer, too"):
        few(SGD(0.1, name="mine"), name="mine")


@pytest.mark.skipif(GENERATION == "keras3", reason="Keras 3 gives names as it makes variables")
def test_the_inner_optimizers_variables_have_the_names_that_they_have_alone():
    def names(optimizer):
        model = dense_model()
        apply(optimizer, gradients(model.trainable_variables), model.trainable_variables)
        variables = optimizer.variables
        return [v.name for v in (variables() if callable(variables) else variables)]

    plain = names(Adam(0.1))
    assert any(name.startswith("Adam/") for name in plain)
    found = names(few(Adam(0.1), error_feedback=True))
    assert found[: len(plain)] == plain
    assert found[len(plain) :] == [f"random_bases_descent/error_{i}:0" for i in range(4)]
