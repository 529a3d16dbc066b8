"""What every basis promises, of whatever kind."""

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases import bases
from random_bases.bases import Basis, DenseBasis, FastfoodBasis, HadamardBasis, PartitionBasis, SparseBasis
from tests.dense_reference import PER_BLOCK, dense, eagerly

SIZE, DIMENSIONS, FEW = 50, 6, 3
ADDRESS = (7, 3, 11)


# The Hadamard basis has two kinds, for many directions and for few.
@pytest.fixture(
    scope="module",
    params=[
        ("normal", DIMENSIONS),
        ("hadamard", DIMENSIONS),
        ("hadamard", FEW),
        ("fastfood", DIMENSIONS),
        ("kronecker", DIMENSIONS),
        ("partition", DIMENSIONS),
    ],
    ids=["normal", "hadamard", "hadamard, few", "fastfood", "kronecker", "partition"],
)
def basis(request):
    """One object for all tests, whose three programs are compiled once."""
    return get(request.param[0], SIZE, request.param[1])


def get(name, size, dimensions, **options):
    """A basis; of the elements as a matrix of five columns, or one, if it must know one."""
    if name == "kronecker":
        columns = 1 if size % 5 else 5
        options["matrix"] = (1, int(size) // columns, columns)
    return bases.get(name, size, dimensions, **options)


@pytest.fixture(scope="module")
def matrix(basis):
    """Its P at `ADDRESS`, from what expand does to unit vectors."""
    units = np.eye(basis.dimensions)
    return np.stack([basis.expand(unit, *ADDRESS) for unit in units], axis=1).astype(np.float64)


@pytest.fixture()
def eager():
    with eagerly():
        yield


def vectors(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size) for size in sizes]


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# --- One linear map -------------------------------------------------------------------------------


def test_project_and_sketch_are_those_of_the_matrix_that_expand_shows(basis, matrix):
    for seed in range(3):
        (v,) = vectors(SIZE, seed=seed)
        coordinates, in_subspace = basis.sketch(v, *ADDRESS)
        close(basis.project(v, *ADDRESS), matrix.T @ v)
        close(coordinates, matrix.T @ v)
        close(in_subspace, matrix @ (matrix.T @ v))


def test_all_methods_are_linear(basis):
    c1, c2, v1, v2 = vectors(basis.dimensions, basis.dimensions, SIZE, SIZE)
    for method, x, y in ((basis.expand, c1, c2), (basis.project, v1, v2)):
        combined = method(2 * x - 3 * y, *ADDRESS)
        close(combined, 2 * method(x, *ADDRESS) - 3 * method(y, *ADDRESS), 2e-5)
    for both, one, other in zip(*(basis.sketch(v, *ADDRESS) for v in (2 * v1 - 3 * v2, v1, v2))):
        close(both, 2 * one - 3 * other, 2e-5)


@settings(max_examples=25)
@given(
    name=st.sampled_from([*PER_BLOCK, "hadamard", "fastfood", "orthogonal", "partition"]),
    size=st.integers(1, 80),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    draw=st.integers(0, 2**31 - 1),
    first=st.integers(0, 2**31 - 81),
    dtype=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
)
def test_project_is_the_adjoint_of_expand(name, size, fraction, seed, draw, first, dtype):
    """<P c, v> = <c, P^T v>, and sketch(v) = (P^T v, P P^T v), for any shape and dtype."""
    basis = bases.get(name, size, max(1, round(fraction * size)))
    c, v = (tf.cast(x, dtype) for x in vectors(basis.dimensions, basis.size, seed=size))
    with eagerly():
        moved, projected = basis.expand(c, seed, draw, first), basis.project(v, seed, draw, first)
        coordinates, in_subspace = basis.sketch(v, seed, draw, first)
        again = basis.expand(projected, seed, draw, first)
    c, v = (tf.cast(x, tf.float64).numpy() for x in (c, v))
    assert moved.dtype == projected.dtype == in_subspace.dtype == tf.float32
    bound = 2e-6 * np.linalg.norm(c) * np.linalg.norm(v) * np.sqrt(size)
    assert abs(moved.numpy() @ v - c @ projected.numpy()) < bound
    close(coordinates, projected, 1e-6 * np.linalg.norm(v) * np.sqrt(size))
    close(in_subspace, again, 1e-6 * np.linalg.norm(v) * size)


# --- Arguments of every kind ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_any_floating_dtype_is_computed_in_float32(basis, dtype):
    """The result is that of the rounded input, bit for bit."""
    c, v = (tf.cast(x, dtype) for x in vectors(basis.dimensions, SIZE))
    for method, x in ((basis.expand, c), (basis.project, v), (basis.sketch, v)):
        found = tf.nest.flatten(method(x, *ADDRESS))
        expected = tf.nest.flatten(method(tf.cast(x, tf.float32), *ADDRESS))
        for a, b in zip(found, expected):
            assert a.dtype == tf.float32
            np.testing.assert_array_equal(a, b)
    assert np.abs(tf.cast(v, tf.float64) - vectors(basis.dimensions, SIZE)[1]).max() < 2**-7


def test_numpy_arrays_lists_and_tensors_are_one(basis):
    (c,) = vectors(basis.dimensions)
    expected = basis.expand(tf.constant(c, tf.float32), *ADDRESS)
    for value in (c, c.astype(np.float32), c.tolist()):
        np.testing.assert_array_equal(basis.expand(value, *ADDRESS), expected)
    seed, draw, first = ADDRESS
    for address in (
        (np.int64(seed), np.int32(draw), np.int64(first)),
        ((seed, 0), tf.constant(draw), tf.constant(first, tf.int64)),
        (np.array([seed, 0]), tf.Variable(draw), np.array(first)),
    ):
        np.testing.assert_array_equal(basis.expand(c, *address), expected)


def test_seed_draw_and_first_each_choose_another_subspace(basis):
    (v,) = vectors(SIZE)
    others = [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 0, 6), (0, 1, 6)]
    found = [basis.sketch(v, *address)[1].numpy() for address in others]
    for i, one in enumerate(found):
        np.testing.assert_array_equal(basis.sketch(v, *others[i])[1], one)
        for other in found[:i]:
            assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(one)


def test_draw_and_first_are_0_unless_given(basis):
    (v,) = vectors(SIZE)
    np.testing.assert_array_equal(basis.project(v, 3), basis.project(v, 3, draw=0, first=0))


class Counting(DenseBasis):
    """Counts how often `project` is traced."""

    traces = 0

    def trace_project(self, *arguments):
        self.traces += 1
        return super().trace_project(*arguments)


def test_one_program_serves_all_draws_seeds_firsts_and_dtypes():
    basis = Counting(8, 2)
    for draw in (0, 1, 2**31 - 1, tf.constant(5), np.int64(6)):
        basis.project(np.ones(8), 0, draw)
    for seed in (1, 2**63, (4, 5), tf.constant([6, 7])):
        basis.project(tf.ones([8], tf.float16), seed, first=seed if isinstance(seed, int) and seed < 9 else 0)
    assert basis.traces == 1


def test_a_step_of_a_users_own_function_does_not_retrace(eager):
    # Tracing happens once in the user's function; here eager, so that each call counts.
    basis = Counting(8, 2)
    for draw in range(3):
        basis.project(np.ones(8), 0, draw)
    assert basis.traces == 3  # the counter counts


@pytest.mark.parametrize(("name", "compiled"), [("normal", False), ("normal", True), ("hadamard", True)])
def test_methods_work_inside_a_users_function(name, compiled):
    basis = bases.get(name, 20, 4)
    traces = []

    @tf.function(jit_compile=compiled)
    def step(v, draw):
        traces.append(draw)
        return basis.sketch(v, ADDRESS[0], draw, ADDRESS[2])

    (v,) = vectors(20)
    v = tf.constant(v, tf.float32)
    for draw in (0, 3, 2**31 - 1):
        found = step(v, tf.constant(draw))
        with eagerly():
            expected = basis.sketch(v, ADDRESS[0], draw, ADDRESS[2])
        close(found[0], expected[0])
        close(found[1], expected[1])
    assert len(traces) == 1


# --- Derivatives ----------------------------------------------------------------------------------


def test_gradients_are_the_adjoints(basis, matrix, eager):
    c, v, w, u = vectors(basis.dimensions, SIZE, SIZE, basis.dimensions)
    c, v = (tf.constant(x, tf.float32) for x in (c, v))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([c, v])
        expanded = tf.reduce_sum(w.astype(np.float32) * basis.expand(c, *ADDRESS))
        projected = tf.reduce_sum(u.astype(np.float32) * basis.project(v, *ADDRESS))
        coordinates, in_subspace = basis.sketch(v, *ADDRESS)
        of_coordinates = tf.reduce_sum(u.astype(np.float32) * coordinates)
        of_both = of_coordinates + tf.reduce_sum(w.astype(np.float32) * in_subspace)
    close(tape.gradient(expanded, c), matrix.T @ w)
    close(tape.gradient(projected, v), matrix @ u)
    close(tape.gradient(of_coordinates, v), matrix @ u)
    close(tape.gradient(of_both, v), matrix @ u + matrix @ (matrix.T @ w))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_gradient_has_the_dtype_of_what_it_is_of(basis, matrix, eager, dtype):
    c, v = (tf.cast(x, dtype) for x in vectors(basis.dimensions, SIZE))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([c, v])
        expanded = tf.reduce_sum(basis.expand(c, *ADDRESS))
        sketched = tf.reduce_sum(basis.sketch(v, *ADDRESS)[1])
    unit_roundoff = {"float16": 2**-11, "bfloat16": 2**-8, "float64": 0.0}[dtype]
    ones = np.ones(SIZE)
    for found, expected in (
        (tape.gradient(expanded, c), matrix.T @ ones),
        (tape.gradient(sketched, v), matrix @ (matrix.T @ ones)),
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(tf.cast(found, tf.float64), expected, rtol=unit_roundoff, atol=1e-5)


def hessian_times(function, x, direction):
    x = tf.cast(x, tf.float32)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = function(x)
        slope = tf.reduce_sum(inner.gradient(value, x) * tf.cast(direction, tf.float32))
    return outer.gradient(slope, x)


def test_second_derivatives_are_right(basis, matrix, eager):
    c, w, v, u = vectors(basis.dimensions, basis.dimensions, SIZE, SIZE)
    curvature = np.linspace(0.5, 2, SIZE)

    def quadratic(c):
        return tf.reduce_sum(curvature.astype(np.float32) * basis.expand(c, *ADDRESS) ** 2) / 2

    close(hessian_times(quadratic, c, w), matrix.T @ (curvature * (matrix @ w)))

    def quartic(c):
        return tf.reduce_sum(basis.expand(c, *ADDRESS) ** 4) / 12

    close(hessian_times(quartic, c, w), matrix.T @ ((matrix @ c) ** 2 * (matrix @ w)))

    def energy(v):
        coordinates, in_subspace = basis.sketch(v, *ADDRESS)
        return (tf.reduce_sum(coordinates**2) + tf.reduce_sum(in_subspace**2)) / 2

    sketch = matrix @ matrix.T
    close(hessian_times(energy, v, u), sketch @ u + sketch @ (sketch @ u))


@pytest.mark.parametrize("compiled", [False, True])
def test_first_and_second_derivatives_inside_a_users_function(compiled):
    """Traced and compiled, as a training step has them."""
    basis = bases.get("normal", 12, 3)
    matrix = dense(12, 3, "normal", *ADDRESS)

    @tf.function(jit_compile=compiled)
    def step(c, w, draw):
        def quadratic(c):
            return tf.reduce_sum(basis.expand(c, ADDRESS[0], draw, ADDRESS[2]) ** 2) / 2

        with tf.GradientTape() as tape:
            tape.watch(c)
            value = quadratic(c)
        return tape.gradient(value, c), hessian_times(quadratic, c, w)

    c, w = vectors(3, 3)
    single = [tf.constant(x, tf.float32) for x in (c, w)]
    gradient, second = step(*single, tf.constant(ADDRESS[1]))
    close(gradient, matrix.T @ (matrix @ c))
    close(second, matrix.T @ (matrix @ w))


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "sparse", "hadamard", "fastfood"])
@pytest.mark.parametrize(
    ("size", "dimensions", "error", "match"),
    [
        (10, 0, ValueError, "dimensions=0"),
        (10, -1, ValueError, "dimensions=-1"),
        (10, 11, ValueError, "dimensions=11.*10"),
        (0, 1, ValueError, "size=0"),
        (-5, 1, ValueError, "size=-5"),
        (10.0, 1, TypeError, "size=10.0"),
        (10, 1.0, TypeError, "dimensions=1.0"),
        (True, True, TypeError, "size=True"),
        (10, None, TypeError, "dimensions=None"),
    ],
)
def test_what_is_no_size_or_number_of_dimensions_is_refused(kind, size, dimensions, error, match):
    with pytest.raises(error, match=match):
        bases.get(kind, size, dimensions)


@pytest.mark.parametrize(
    ("method", "value", "error", "match"),
    [
        ("expand", np.ones(7), ValueError, r"c has shape \(7,\).*\([63],\)"),
        ("expand", np.ones([1, 6]), ValueError, r"c has shape \(1, 6\)"),
        ("expand", np.ones(6, np.int32), TypeError, "c has dtype int32"),
        ("project", np.ones(6), ValueError, r"v has shape \(6,\).*\(50,\)"),
        ("project", np.ones([SIZE, 1]), ValueError, r"v has shape \(50, 1\)"),
        ("project", 1.0, ValueError, r"v has shape \(\)"),
        ("project", np.ones(SIZE, np.int64), TypeError, "v has dtype int64"),
        ("sketch", np.ones(SIZE - 1), ValueError, r"v has shape \(49,\).*\(50,\)"),
        ("sketch", np.ones(SIZE, bool), TypeError, "v has dtype bool"),
        ("sketch", np.ones(SIZE, complex), TypeError, "v has dtype complex128"),
    ],
)
def test_a_value_of_another_shape_or_dtype_is_refused(basis, method, value, error, match):
    with pytest.raises(error, match=match):
        getattr(basis, method)(value, 0)


@pytest.mark.parametrize("name", ["draw", "first"])
@pytest.mark.parametrize(
    "value", [0.0, [0], np.zeros(2, int), True, tf.constant(1.5), 2**32, np.int64(-(2**31) - 1)]
)
def test_what_is_no_integer_scalar_is_refused(basis, name, value):
    with pytest.raises(ValueError, match=name):
        basis.project(np.ones(SIZE), 0, **{name: value})


def test_none_is_refused_by_name(basis):
    with pytest.raises(TypeError, match="v=None"):
        basis.project(None, 0)
    with pytest.raises(TypeError, match="draw=None"):
        basis.project(np.ones(SIZE), 0, draw=None)


def test_a_seed_that_is_none_is_refused(basis):
    with pytest.raises(TypeError, match="seed"):
        basis.project(np.ones(SIZE), 0.5)
    with pytest.raises(ValueError, match="seed"):
        basis.project(np.ones(SIZE), -1)


# --- Names and descriptions -----------------------------------------------------------------------


def test_names_are_those_that_get_accepts():
    assert bases.names() == sorted(
        [*PER_BLOCK, "hadamard", "fastfood", "kronecker", "orthogonal", "partition"]
    )
    for name in bases.names():
        basis = get(name, size=9, dimensions=2)
        assert (basis.size, basis.dimensions) == (9, 2)


@pytest.mark.parametrize(
    ("basis", "options", "error", "match"),
    [
        ("gaussian", {}, ValueError, "basis='gaussian'.*hadamard.*normal"),
        ("Hadamard", {}, ValueError, "basis='Hadamard'"),
        (None, {}, TypeError, "basis=None"),
        (3, {}, TypeError, "basis=3"),
        (DenseBasis, {}, TypeError, "basis="),
        ("normal", {"width": 3}, TypeError, "width"),
        ("hadamard", {"tile": 64}, TypeError, "tile"),
        ("fastfood", {"tile": 64}, TypeError, "tile"),
        ("partition", {"tile": 64}, TypeError, "tile"),
        ("sparse", {"p": 0.5}, TypeError, "p"),
        ("sparse", {"density": 0.0}, ValueError, "density=0.0"),
        ("sparse", {"density": 1.5}, ValueError, "density=1.5"),
        ("sparse", {"density": True}, TypeError, "density=True"),
        ("sparse", {"density": "li"}, TypeError, "density='li'"),
        ("hadamard", {"generator": "native"}, TypeError, "generator"),
    ],
)
def test_an_unknown_basis_or_option_is_refused(basis, options, error, match):
    with pytest.raises(error, match=match):
        bases.get(basis, 10, 2, **options)


EXAMPLES = [
    DenseBasis(20, 3),
    DenseBasis(20, 3, "bernoulli", tile=128, p=0.25),
    DenseBasis(20, 3, "uniform", generator="native"),
    HadamardBasis(20, 3),
    SparseBasis(20, 3, density="sqrt", tile=128),
    FastfoodBasis(20, 3),
    PartitionBasis(20, 3),
]


@pytest.mark.parametrize("original", EXAMPLES, ids=repr)
def test_a_description_rebuilds_the_basis(original, eager):
    description = json.loads(json.dumps(bases.serialize(original)))
    again = bases.deserialize(description)
    assert type(again) is type(original) and again.get_config() == original.get_config()
    assert repr(again) == repr(original)
    c = [1.0, -2.0, 3.0]
    np.testing.assert_array_equal(again.expand(c, *ADDRESS), original.expand(c, *ADDRESS))


@pytest.mark.parametrize("name", bases.names())
def test_numbers_may_be_of_numpy(name):
    ours, plain = get(name, np.int64(400), np.int32(6)), get(name, 400, 6)
    assert json.dumps(ours.get_config()) == json.dumps(plain.get_config())
    np.testing.assert_array_equal(ours.project(np.ones(400), 1), plain.project(np.ones(400), 1))


@pytest.mark.parametrize(("name", "option"), [("bernoulli", "p"), ("sparse", "density")])
def test_options_may_be_of_numpy(name, option):
    ours, plain = (
        bases.get(name, 50, 6, **{option: np.float32(0.25)}),
        bases.get(name, 50, 6, **{option: 0.25}),
    )
    assert json.dumps(ours.get_config()) == json.dumps(plain.get_config())


def test_a_basis_can_be_sent_to_another_process():
    basis = bases.get("rademacher", 50, 6)
    used = basis.project(np.ones(50), 1)
    received = pickle.loads(pickle.dumps(basis))
    np.testing.assert_array_equal(received.project(np.ones(50), 1), used)


@pytest.mark.parametrize("original", EXAMPLES, ids=repr)
def test_a_basis_is_a_pattern_for_others(original):
    found = bases.get(original, size=30, dimensions=7)
    assert type(found) is type(original)
    expected = {**original.get_config(), "size": 30, "dimensions": 7}
    assert found.get_config() == expected


@pytest.mark.parametrize("description", [{}, {"class_name": "Basis", "config": {}}, {"class_name": "dense"}])
def test_a_description_of_no_basis_is_refused(description):
    with pytest.raises(ValueError, match="class_name="):
        bases.deserialize(description)


def test_another_package_can_add_a_basis(eager):
    """`Basis` needs two methods: sketch and derivatives follow."""

    class First(Basis):
        """The first d elements."""

        def trace_project(self, v, seed, draw, first):
            return v[: self.dimensions]

        def trace_expand(self, c, seed, draw, first):
            return tf.pad(c, [[0, self.size - self.dimensions]])

    basis = First(4, 2)
    v = tf.constant([1.0, 2.0, 3.0, 4.0])
    with tf.GradientTape() as tape:
        tape.watch(v)
        coordinates, in_subspace = basis.sketch(v, 0)
        value = tf.reduce_sum(in_subspace**2) + tf.reduce_sum(coordinates)
    assert coordinates.numpy().tolist() == [1, 2] and in_subspace.numpy().tolist() == [1, 2, 0, 0]
    assert tape.gradient(value, v).numpy().tolist() == [3, 5, 0, 0]
    assert bases.get(basis, 5, 3).project(np.arange(5.0), 0).numpy().tolist() == [0, 1, 2]


# --- Applied to many at once ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["normal", "sparse", "hadamard", "partition", pytest.param("rademacher", marks=pytest.mark.slow)]
)
def test_a_jacobian_is_the_matrix(name):
    """`tape.jacobian` vectorises the gradient, with all that is drawn in it."""
    basis = bases.get(name, 20, 3)
    c = tf.constant([1.0, -2.0, 0.5])
    with tf.GradientTape() as tape:
        tape.watch(c)
        point = basis.expand(c, 5)
    columns = [basis.expand(row, 5) for row in np.eye(3, dtype=np.float32)]
    np.testing.assert_allclose(tape.jacobian(point, c), np.stack(columns, axis=1), atol=1e-6)
