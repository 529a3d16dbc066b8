"""The rule alone, free of Keras: P P^T g, the draws, the arguments."""

import json
import random

import numpy as np
import pytest
import tensorflow as tf

from random_bases import bases
from random_bases.optimizers import RandomBasesDescent
from random_bases.optimizers.directions import Redraws
from random_bases.optimizers.rule import RandomBasesRule
from random_bases.sampling.seeds import as_seed
from tests.dense_reference import eagerly
from tests.optimizers.helpers import flat, matrix

SHAPES = [(5, 6), (6,), (6, 4), (4,)]
PATHS = ["a/kernel", "a/bias", "b/kernel", "b/bias"]


def make(dimensions=5, basis="rademacher", compartments="network", allocation="even", redraw_every=1, seed=0):
    return RandomBasesRule(dimensions, basis, compartments, allocation, redraw_every, seed)


def built(**arguments):
    rule = make(**arguments)
    rule.build(SHAPES, PATHS)
    return rule


def example(seed=0):
    rng = np.random.RandomState(seed)
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32, 2**64 - 1])
def test_gives_p_p_transposed_g(seed):
    rule = built(seed=seed)
    p = matrix(rule, draw=0)
    sketched = rule(example(), tf.constant(0, tf.int64))
    assert [tuple(s.shape) for s in sketched] == SHAPES
    np.testing.assert_allclose(flat(sketched), p @ (p.T @ flat(example())), atol=1e-5)


def test_draws_count_updates():
    assert [int(Redraws(1).draw(t)) for t in range(7)] == [0, 1, 2, 3, 4, 5, 6]
    assert [int(Redraws(3).draw(t)) for t in range(7)] == [0, 0, 0, 1, 1, 1, 2]
    assert [int(Redraws(None).draw(t)) for t in range(7)] == [0] * 7
    assert Redraws(1).draw(tf.constant(2, tf.int64)).dtype == tf.int32


@pytest.mark.parametrize("redraw_every", [1, 3, None])
def test_the_basis_is_that_of_the_draw(redraw_every):
    rule = built(redraw_every=redraw_every)
    every = [rule(example(), tf.constant(t)) for t in range(7)]
    for t in range(7):
        draw = 0 if redraw_every is None else t // redraw_every
        p = matrix(rule, draw)
        np.testing.assert_allclose(flat(every[t]), p @ (p.T @ flat(example())), atol=1e-5)


@pytest.mark.parametrize("missing", [[0], [1, 3], [0, 1, 2]])
def test_none_counts_as_zero_and_stays_none(missing):
    rule = built()
    grads = [None if i in missing else g for i, g in enumerate(example())]
    zeros = [tf.zeros(shape) if g is None else g for g, shape in zip(grads, SHAPES)]
    sketched = rule(grads, tf.constant(0))
    p = matrix(rule, draw=0)
    expected = np.split(p @ (p.T @ flat(zeros)), np.cumsum([30, 6, 24]))
    for i in range(4):
        if i in missing:
            assert sketched[i] is None
        else:
            np.testing.assert_allclose(flat([sketched[i]]), expected[i], atol=1e-5)


def test_sparse_gradients_with_repeated_rows():
    rule = built()
    grads = example()
    rows = np.array([3, 0, 3], np.int32)
    slices = np.random.RandomState(1).normal(size=(3, 6)).astype(np.float32)
    dense = np.zeros((5, 6), np.float32)
    np.add.at(dense, rows, slices)
    sparse = tf.IndexedSlices(tf.constant(slices), tf.constant(rows), tf.constant([5, 6]))
    for call in (rule, tf.function(rule.__call__)):
        np.testing.assert_allclose(
            flat(call([sparse, *grads[1:]], tf.constant(0))),
            flat(rule([tf.constant(dense), *grads[1:]], tf.constant(0))),
            atol=1e-6,
        )


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_results_have_the_gradients_dtypes(dtype):
    rule = built()
    grads = [tf.cast(example()[0], dtype), *example()[1:]]
    with eagerly():
        sketched = rule(grads, tf.constant(0))
    assert [s.dtype for s in sketched] == [dtype, tf.float32, tf.float32, tf.float32]
    p = matrix(rule, draw=0)
    exact = p @ (p.T @ flat([tf.cast(g, tf.float64) for g in grads]))
    got = flat([tf.cast(s, tf.float64) for s in sketched])
    np.testing.assert_allclose(got, exact, atol=0.02 if dtype != tf.float64 else 1e-5)


def test_called_eagerly_and_in_a_graph_it_is_the_same_program():
    rule = built(basis="normal")
    eager = rule(example(), tf.constant(4))
    graph = tf.function(rule.__call__)(example(), tf.constant(4))
    for a, b in zip(eager, graph):
        np.testing.assert_array_equal(a, b)
    # Compiled into a larger program, it may round otherwise.
    compiled = tf.function(rule.__call__, jit_compile=True)(example(), tf.constant(4))
    np.testing.assert_allclose(flat(compiled), flat(eager), atol=1e-6)


def test_signs_are_the_same_in_every_program():
    # Entries of P are +-1/8 and gradients integers, so sums are exact in any order.
    rule = built(dimensions=4)
    grads = [tf.ones(shape) * 2.0 for shape in SHAPES]
    eager = rule(grads, tf.constant(4))
    compiled = tf.function(rule.__call__, jit_compile=True)(grads, tf.constant(4))
    for a, b in zip(eager, compiled):
        np.testing.assert_array_equal(a, b)


def test_a_new_draw_does_not_trace_again():
    rule = built(compartments=2)
    rule(example(), tf.constant(0, tf.int64))
    program = rule.subspace._programs["_sketch"].program
    before = program.experimental_get_tracing_count()
    for t in range(5):
        rule(example(), tf.constant(t, tf.int64))
    assert program.experimental_get_tracing_count() == before


# --- Arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"dimensions": 0}, ValueError, "dimensions=0 "),
        ({"dimensions": -1}, ValueError, "dimensions=-1 "),
        ({"dimensions": 2.5}, TypeError, "dimensions=2.5 "),
        ({"dimensions": True}, TypeError, "dimensions=True "),
        ({"dimensions": "9"}, TypeError, "dimensions='9' "),
        ({"dimensions": None}, TypeError, "dimensions=None "),
        ({"basis": "gaussian"}, ValueError, "basis='gaussian' .*hadamard"),
        ({"basis": "gaussian"}, ValueError, "'history'"),
        ({"basis": None}, TypeError, "basis=None "),
        ({"basis": 3}, TypeError, "basis=3 "),
        ({"basis": {"class_name": "Fourier", "config": {}}}, ValueError, "Fourier"),
        ({"compartments": "layers"}, ValueError, "compartments='layers' .*layer"),
        ({"allocation": "equal"}, ValueError, "allocation='equal' .*even"),
        ({"redraw_every": 0}, ValueError, "redraw_every=0 "),
        ({"redraw_every": -1}, ValueError, "redraw_every=-1 "),
        ({"redraw_every": 2**31}, ValueError, f"redraw_every={2**31} "),
        ({"redraw_every": 1.5}, TypeError, "redraw_every=1.5 "),
        ({"redraw_every": True}, TypeError, "redraw_every=True "),
        ({"redraw_every": "never"}, TypeError, "redraw_every='never' "),
        ({"seed": 1.5}, TypeError, "seed=1.5 "),
        ({"seed": "a"}, TypeError, "seed='a' "),
        ({"seed": True}, TypeError, "seed=True "),
        ({"seed": (0, 1)}, TypeError, r"seed=\(0, 1\) "),
        ({"seed": -1}, ValueError, "seed=-1 "),
        ({"seed": 2**64}, ValueError, f"seed={2**64} "),
    ],
)
def test_what_is_not_allowed_is_refused_at_once(arguments, error, named):
    with pytest.raises(error, match=named):
        make(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"dimensions": 65}, ValueError, "dimensions=65 is more than the 64 parameters"),
        ({"dimensions": 3, "compartments": "variable"}, ValueError, "dimensions=3 is fewer than the 4"),
        ({"dimensions": 1, "compartments": "layer"}, ValueError, "dimensions=1 is fewer than the 2"),
        ({"compartments": 0}, ValueError, "compartments=0 "),
        ({"compartments": 65}, ValueError, "compartments=65 "),
        ({"compartments": 2.0}, TypeError, "compartments=2.0 "),
        ({"compartments": [32, 33]}, ValueError, "compartments=.* sums to 65"),
        ({"allocation": [4]}, ValueError, r"allocation=\[4\] "),
        ({"basis": bases.HadamardBasis(63, 5)}, ValueError, "size=64"),
        ({"basis": bases.HadamardBasis(64, 6)}, ValueError, "dimensions=5"),
    ],
)
def test_what_does_not_fit_the_variables_is_refused_when_they_are_known(arguments, error, named):
    rule = make(**arguments)
    with pytest.raises(error, match=named):
        rule.build(SHAPES, PATHS)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"redraw_every": None, "seed": 2**64 - 1},
        {"dimensions": 6, "basis": "hadamard", "compartments": "layer", "redraw_every": 7},
        {"dimensions": 6, "compartments": 3, "allocation": "proportional"},
        {"dimensions": 6, "compartments": [40, 24], "allocation": [2, 4]},
        {"dimensions": 6, "basis": bases.get("bernoulli", 64, 6, p=0.25, tile=128)},
        {"dimensions": 6, "basis": bases.get("normal", 64, 6), "compartments": "variable"},
        {"dimensions": 6, "basis": bases.HadamardBasis(64, 6), "compartments": 2},
    ],
)
def test_the_configuration_makes_the_same_rule(arguments):
    rule = built(**arguments)
    config = json.loads(json.dumps(rule.get_config()))
    again = RandomBasesRule(**config)
    again.build(SHAPES, PATHS)
    assert json.loads(json.dumps(again.get_config())) == config
    with eagerly():
        for a, b in zip(rule(example(), tf.constant(8)), again(example(), tf.constant(8))):
            np.testing.assert_array_equal(a, b)


def test_a_configuration_names_every_argument():
    assert make(compartments=2, seed=9).get_config() == {
        "dimensions": 5,
        "basis": "rademacher",
        "compartments": 2,
        "allocation": "even",
        "redraw_every": 1,
        "seed": 9,
        "replicas": "shared",
        "exchange": "coordinates",
        "keep_fraction": 1.0,
        "redraw_fraction": 1.0,
        "error_feedback": False,
        "memory_limit": None,
    }


def test_seed_none_draws_one_from_python_and_records_it():
    random.seed(3)
    seeds = [make(seed=None).seed for _ in range(3)]
    assert len(set(seeds)) == 3
    random.seed(3)
    assert [make(seed=None).seed for _ in range(3)] == seeds
    for seed in seeds:
        assert isinstance(seed, int)
        as_seed(seed)


@pytest.mark.parametrize(
    "name",
    [
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "use_ema",
        "ema_momentum",
        "ema_overwrite_frequency",
        "weight_decay",
        "momentum",
        "learning_rate",
        "lr",
        "decay",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    ],
)
def test_arguments_of_the_inner_optimizer_are_refused_with_advice(name):
    with pytest.raises(TypeError, match=f"{name!r}: give it to the inner optimizer"):
        RandomBasesDescent("sgd", 5, **{name: 1.0})


def test_unknown_arguments_are_refused_without_it():
    with pytest.raises(TypeError, match="no argument 'dimension'.$"):
        RandomBasesDescent("sgd", 5, dimension=3)
