import gc

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases import Subspace, bases
from random_bases.bases import DenseBasis, HadamardBasis
from random_bases.compartments import allocate, split
from random_bases.sampling.seeds import as_seed
from tests.dense_reference import dense, eagerly

# Two layers whose variables are interleaved, a scalar, and equal sizes among them: 48 parameters.
SHAPES = [(4, 3), (2, 2, 3), (6,), (), (3, 4), (5,)]
SIZES = [12, 12, 6, 1, 12, 5]
PATHS = ["a/kernel", "b/kernel", "a/bias", "b/scale", "c/kernel", "b/bias"]
TOTAL = 48
# Compartments, and their sizes: equal ones share a program's loop.
COMPARTMENTS = {
    "network": "network",
    "layer": "layer",
    "variable": "variable",
    "four equal": 4,
    "five, of two sizes": 5,
    "given": [20, 8, 20],
}
SEED, DRAW = 2**40 + 9, 6


@pytest.fixture()
def eager():
    with eagerly():
        yield


def tensors(dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [tf.cast(rng.normal(size=shape), dtype) for shape in SHAPES]


def flat(values, order=None):
    """Values of the variables as one float64 vector, by default in the variables' order."""
    order = range(len(values)) if order is None else order
    return np.concatenate([tf.cast(values[i], tf.float64).numpy().ravel() for i in order])


def matrix_of(compartments, dimensions, allocation, seed=SEED, draw=DRAW):
    """The explicit block-diagonal P, rows in the variables' order."""
    order, sizes = split(SIZES, compartments, PATHS)
    matrix = np.zeros([TOTAL, dimensions])
    row = first = 0
    for size, share in zip(sizes, allocate(sizes, dimensions, allocation)):
        matrix[row : row + size, first : first + share] = dense(size, share, "normal", seed, draw, first)
        row, first = row + size, first + share
    starts = np.cumsum([0, *SIZES])
    positions = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    unordered = np.empty_like(matrix)
    unordered[positions] = matrix
    return unordered


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def assert_is(subspace, matrix, dtype="float32", seed=SEED, draw=DRAW):
    """Asserts that the three methods of `subspace` are those of `matrix`, lists in and out."""
    values, c = tensors(dtype), np.random.default_rng(1).normal(size=subspace.dimensions)
    v = flat(values)
    coordinates, in_subspace = subspace.sketch(values, seed, draw)
    expanded = subspace.expand(c, seed, draw)
    for found, expected in (
        (subspace.project(values, seed, draw), matrix.T @ v),
        (coordinates, matrix.T @ v),
        (flat(expanded), matrix @ c),
        (flat(in_subspace), matrix @ (matrix.T @ v)),
    ):
        close(found, expected)
    for result in (expanded, in_subspace):
        assert [tuple(part.shape) for part in result] == SHAPES
        assert {part.dtype for part in (coordinates, *result)} == {tf.float32}


# --- The explicit block-diagonal P ----------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["even", "proportional"])
@pytest.mark.parametrize("compartments", COMPARTMENTS.values(), ids=COMPARTMENTS)
def test_all_methods_are_those_of_the_block_diagonal_matrix(eager, compartments, allocation):
    subspace = Subspace(SHAPES, 19, "normal", compartments, allocation, PATHS)
    assert_is(subspace, matrix_of(compartments, 19, allocation))
    assert subspace.dimensions == sum(subspace.compartment_dimensions) == 19
    assert subspace.size == sum(subspace.compartment_sizes) == TOTAL


def test_a_given_allocation(eager):
    subspace = Subspace(SHAPES, 19, "normal", [20, 8, 20], [1, 8, 10])
    assert subspace.compartment_dimensions == (1, 8, 10)
    assert_is(subspace, matrix_of([20, 8, 20], 19, [1, 8, 10]))


@settings(max_examples=12)
@given(data=st.data(), allocation=st.sampled_from(["even", "proportional"]))
def test_any_number_of_compartments_and_dimensions(data, allocation):
    number = data.draw(st.integers(1, 8))
    dimensions = data.draw(st.integers(number, TOTAL))
    seed = data.draw(st.integers(0, 2**64 - 1))
    draw = data.draw(st.integers(0, 2**31 - 1))
    dtype = data.draw(st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
    matrix = matrix_of(number, dimensions, allocation, seed, draw)
    with eagerly():
        assert_is(Subspace(SHAPES, dimensions, "normal", number, allocation), matrix, dtype, seed, draw)


def test_compiled_methods_are_those_of_the_block_diagonal_matrix():
    """A loop over two equal compartments, and one on its own."""
    subspace = Subspace(SHAPES, 17, "normal", [20, 8, 20], [7, 3, 7])
    assert_is(subspace, matrix_of([20, 8, 20], 17, [7, 3, 7]))


@pytest.mark.parametrize("name", ["hadamard", "uniform"])
@pytest.mark.parametrize("compartments", [3, "layer", "variable"])
def test_each_compartment_has_the_basis_of_its_first_direction(eager, name, compartments):
    """Looped over or not, a compartment's part is that of its own `Basis`."""
    subspace = Subspace(SHAPES, 14, name, compartments, paths=PATHS)
    order, sizes = split(SIZES, compartments, PATHS)
    values = tensors()
    coordinates, in_subspace = subspace.sketch(values, SEED, DRAW)
    v, sketched = flat(values, order), flat(in_subspace, order)
    row = first = 0
    for size, share in zip(sizes, subspace.compartment_dimensions):
        c, part = bases.get(name, size, share).sketch(v[row : row + size], SEED, DRAW, first)
        close(coordinates[first : first + share], c)
        close(sketched[row : row + size], part)
        row, first = row + size, first + share
    assert (row, first) == (TOTAL, 14)


def test_equal_compartments_are_grouped_and_still_independent(eager):
    """A loop over equal compartments gives what unequal ones, each on its own, give of the same P."""
    looped = Subspace(SHAPES, 12, "normal", [12, 12, 12, 12])
    alone = Subspace(SHAPES, 12, "normal", [12, 36], [3, 9])
    values = tensors()
    close(looped.project(values, 1)[:3], alone.project(values, 1)[:3])
    # Four independent bases of equal parameters: four different sets of coordinates.
    ones = [tf.ones(shape) for shape in SHAPES]
    parts = looped.project(ones, 1).numpy().reshape(4, 3)
    assert len(np.unique(np.round(parts, 5))) == 12


def test_samples_do_not_depend_on_the_compartments(eager):
    """Only the factor 1 / sqrt(n_k) does: direction i is the same stream in any compartment."""
    c = np.random.default_rng(2).normal(size=9)
    network = Subspace(SHAPES, 9, "normal")
    parts = Subspace(SHAPES, 9, "normal", [20, 8, 20], [2, 4, 3])
    row = first = 0
    for size, share in zip(parts.compartment_sizes, parts.compartment_dimensions):
        only = np.zeros(9)
        only[first : first + share] = c[first : first + share]
        whole = flat(network.expand(only, SEED, DRAW)) * np.sqrt(TOTAL)
        found = flat(parts.expand(only, SEED, DRAW)) * np.sqrt(size)
        close(found[row : row + size], whole[:size], 2e-5)
        # And nothing outside.
        assert np.count_nonzero(found) == size
        row, first = row + size, first + share


def test_with_all_dimensions_a_hadamard_subspace_is_everything(eager):
    for compartments in COMPARTMENTS.values():
        subspace = Subspace(SHAPES, TOTAL, "hadamard", compartments, paths=PATHS)
        assert subspace.compartment_dimensions == subspace.compartment_sizes
        close(flat(subspace.sketch(tensors(), SEED, DRAW)[1]), flat(tensors()))


def test_variables_of_one_size_keep_their_places(eager):
    """A unit vector of one variable comes back in that variable, whatever the order of layers."""
    subspace = Subspace(SHAPES, 6, "normal", "variable")
    for i, shape in enumerate(SHAPES):
        values = [tf.ones(s) if j == i else tf.zeros(s) for j, s in enumerate(SHAPES)]
        _, in_subspace = subspace.sketch(values, SEED)
        assert [bool(np.any(part)) for part in in_subspace] == [j == i for j in range(len(SHAPES))]
        assert in_subspace[i].shape == shape


# --- Seeds, dtypes, programs ----------------------------------------------------------------------


def test_another_seed_or_draw_is_another_subspace_and_the_same_the_same(eager):
    subspace = Subspace(SHAPES, 8, "normal", 2)
    found = [
        subspace.project(tensors(), *address).numpy()
        for address in ((0, 0), (0, 1), (1, 0), (1, 1), ((0, 1), 0), (2**32 + 1, 0))
    ]
    np.testing.assert_array_equal(subspace.project(tensors(), 0), found[0])  # draw 0
    for i, one in enumerate(found):
        assert all(np.linalg.norm(one - other) > 0.1 * np.linalg.norm(one) for other in found[:i])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_gradients_of_any_dtype_are_computed_in_float32(eager, dtype):
    subspace = Subspace(SHAPES, 8, "normal", 2)
    low = tensors(dtype)
    exact = [tf.cast(tensor, tf.float32) for tensor in low]
    for found, expected in zip(
        tf.nest.flatten(subspace.sketch(low, SEED, DRAW)), tf.nest.flatten(subspace.sketch(exact, SEED, DRAW))
    ):
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, expected)
    # And of several at once, and of NumPy's.
    mixed = [low[0], *exact[1:3], *(tensor.numpy() for tensor in exact[3:])]
    mixed[0] = tf.cast(low[0], tf.float16 if dtype == "float16" else tf.float32)
    np.testing.assert_array_equal(subspace.project(mixed, SEED), subspace.project(exact, SEED))


def test_a_basis_object_says_which_kind(eager):
    for name, pattern in (
        ("rademacher", DenseBasis(TOTAL, 9, "rademacher", tile=64)),
        ("hadamard", HadamardBasis(TOTAL, 9)),
    ):
        for compartments in ("network", 3, "layer"):
            by_name, by_object = (
                Subspace(SHAPES, 9, basis, compartments, paths=PATHS) for basis in (name, pattern)
            )
            for a, b in zip(
                tf.nest.flatten(by_name.sketch(tensors(), SEED)),
                tf.nest.flatten(by_object.sketch(tensors(), SEED)),
            ):
                close(a, b)


def test_inside_a_users_compiled_function_one_program_serves_all_draws():
    subspace = Subspace(SHAPES, 6, "normal", 2)
    traces = []

    @tf.function(jit_compile=True)
    def step(values, draw):
        traces.append(draw)
        return subspace.sketch(values, SEED, draw)

    for draw in (0, DRAW, 2**31 - 1):
        matrix = matrix_of(2, 6, "even", draw=draw)
        coordinates, in_subspace = step(tensors(), tf.constant(draw))
        close(coordinates, matrix.T @ flat(tensors()))
        close(flat(in_subspace), matrix @ (matrix.T @ flat(tensors())))
    assert len(traces) == 1


class Counting(DenseBasis):
    """Counts how often `project` is traced, of all its instances together."""

    traces = 0

    def trace_project(self, *arguments):
        Counting.traces += 1
        return super().trace_project(*arguments)


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_traced_once_serves_equal_subspaces(kept):
    """Also those that are made when the first is gone, as where one model after another is trained."""
    v = [tf.ones([3, 4 + kept])]
    Counting.traces, held, found = 0, [], []
    for _ in range(3):
        subspace = Subspace([v[0].shape], 5, Counting(v[0].shape.num_elements(), 5))
        held += [subspace] * kept
        found.append(subspace.project(v, SEED).numpy())
        del subspace
        gc.collect()
    assert Counting.traces == 1
    np.testing.assert_array_equal(found[1:], [found[0]] * 2)
    other = Subspace([v[0].shape], 4, Counting(v[0].shape.num_elements(), 4))
    other.project(v, SEED)
    assert Counting.traces == 2


def test_gradients_are_the_adjoints(eager):
    subspace = Subspace(SHAPES, 7, "normal", 4, allocation=[2, 2, 2, 1])
    matrix = matrix_of(4, 7, [2, 2, 2, 1])
    values, c = tensors(), tf.constant(np.random.default_rng(1).normal(size=7), tf.float32)
    weights, u = tensors(seed=3), np.random.default_rng(4).normal(size=7).astype(np.float32)

    def inner(a, b):
        return tf.add_n([tf.reduce_sum(x * y) for x, y in zip(a, b)])

    with tf.GradientTape(persistent=True) as tape:
        tape.watch([c, *values])
        expanded = inner(weights, subspace.expand(c, SEED, DRAW))
        projected = tf.reduce_sum(u * subspace.project(values, SEED, DRAW))
        coordinates, in_subspace = subspace.sketch(values, SEED, DRAW)
        both = tf.reduce_sum(u * coordinates) + inner(weights, in_subspace)
    close(tape.gradient(expanded, c), matrix.T @ flat(weights))
    close(flat(tape.gradient(projected, values)), matrix @ u)
    close(flat(tape.gradient(both, values)), matrix @ u + matrix @ (matrix.T @ flat(weights)))


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"dimensions": 49}, ValueError, "dimensions=49.*48"),
        ({"dimensions": 0}, ValueError, "dimensions=0"),
        ({"dimensions": 5, "compartments": "variable"}, ValueError, "dimensions=5.*6 compartments"),
        ({"dimensions": 5.0}, TypeError, "dimensions=5.0"),
        ({"compartments": "layer"}, ValueError, "paths=None"),
        ({"compartments": "half"}, ValueError, "compartments='half'"),
        ({"compartments": [40, 9]}, ValueError, "compartments=.*49.*48"),
        ({"allocation": "odd"}, ValueError, "allocation='odd'"),
        ({"allocation": [8], "compartments": 2}, ValueError, "allocation="),
        ({"basis": "gaussian"}, ValueError, "basis='gaussian'"),
        ({"basis": None}, TypeError, "basis=None"),
        ({"basis": DenseBasis(TOTAL, 7)}, ValueError, "basis=.*dimensions=8"),
        ({"basis": DenseBasis(TOTAL + 1, 8)}, ValueError, "basis=.*size=48"),
        ({"shapes": []}, ValueError, "sizes="),
        ({"shapes": [(3, 0), (0,)]}, ValueError, "sizes="),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(arguments, error, match):
    with pytest.raises(error, match=match):
        Subspace(**{"shapes": SHAPES, "dimensions": 8, **arguments})


@pytest.mark.parametrize("method", ["project", "sketch"])
def test_tensors_of_other_shapes_are_refused(method):
    run = getattr(Subspace(SHAPES, 8), method)
    for wrong in (
        tensors()[:-1],
        [*tensors(), tf.zeros([1])],
        tensors()[::-1],
        [tf.reshape(tensors()[0], [12])],
    ):
        with pytest.raises(ValueError, match=r"tensors(\[\d\])? has "):
            run(wrong, 0)


@pytest.mark.parametrize("c", [np.zeros(7), np.zeros([1, 8]), 0.0])
def test_coordinates_of_another_shape_are_refused(c):
    with pytest.raises(ValueError, match=r"c has shape .*\(8,\)"):
        Subspace(SHAPES, 8).expand(c, 0)


@pytest.mark.parametrize("draw", [0.5, [1], True])
def test_a_draw_that_is_no_integer_scalar_is_refused(draw):
    with pytest.raises(ValueError, match="draw"):
        Subspace(SHAPES, 8).project(tensors(), 0, draw)


def test_a_value_that_is_not_floating_point_is_refused(eager):
    """As a `Basis` refuses it."""
    subspace = Subspace(SHAPES, 8)
    with pytest.raises(TypeError, match="int32"):
        subspace.project([tf.zeros(shape, tf.int32) for shape in SHAPES], 0)
    with pytest.raises(TypeError, match="int32"):
        subspace.expand(np.zeros(8, np.int32), 0)


def test_a_seed_that_is_none_is_refused(eager):
    with pytest.raises(TypeError, match="seed"):
        Subspace(SHAPES, 8).project(tensors(), None)


@pytest.mark.parametrize("compartments", COMPARTMENTS.values(), ids=list(COMPARTMENTS))
def test_single_directions_are_columns_of_p(compartments):
    dimensions, draws = 13, [DRAW, DRAW + 1, DRAW, 0]
    subspace = Subspace(SHAPES, dimensions, "normal", compartments, "proportional", PATHS)
    indices = [0, 12, 5, 5]
    with eagerly():
        found = subspace.trace_directions(tf.constant(indices), as_seed(SEED), tf.constant(draws))
    assert [tuple(tensor.shape) for tensor in found] == [(4, *shape) for shape in SHAPES]
    columns = np.concatenate([tf.reshape(tensor, [4, -1]).numpy() for tensor in found], axis=1)
    for column, index, draw in zip(columns, indices, draws):
        expected = matrix_of(compartments, dimensions, "proportional", draw=draw)[:, index]
        np.testing.assert_allclose(column, expected, atol=1e-6)


def test_single_directions_of_a_basis_drawn_as_a_whole():
    subspace = Subspace(SHAPES, 5, "hadamard")
    assert not subspace.entrywise
    with eagerly():
        found = subspace.trace_directions(tf.constant([4, 1]), as_seed(SEED), tf.constant([2, 3]))
        for row, (index, draw) in enumerate([(4, 2), (1, 3)]):
            column = subspace.expand(tf.one_hot(index, 5), SEED, draw)
            for tensor, expected in zip(found, column):
                np.testing.assert_allclose(tensor[row], expected, atol=1e-6)


def test_entries_from_anywhere():
    subspace = Subspace(SHAPES, 5, "rademacher", [20, 8, 20])
    where = tf.constant([4, 0]), as_seed(SEED), tf.constant([2, 3])
    with eagerly():
        whole = subspace.trace_entries(*where, tf.range(TOTAL))
        np.testing.assert_array_equal(subspace.trace_entries(*where, tf.range(17, 26)), whole[:, 17:26])


@pytest.mark.parametrize("compartments", ["network", "variable"])
def test_a_variable_without_elements_is_passed_through(compartments):
    shapes = [(0, 3), (2, 3), (4,)]
    tensors = [np.ones(shape, np.float32) * (1 + i) for i, shape in enumerate(shapes)]
    found = Subspace(shapes, 10, "hadamard", compartments)
    coordinates, parts = found.sketch(tensors, 3)
    assert coordinates.shape == 10
    for part, tensor in zip(parts, tensors):  # all directions: P P^T = I
        np.testing.assert_allclose(part, tensor, atol=1e-5)
    without = Subspace(shapes[1:], 10, "hadamard", compartments)
    np.testing.assert_allclose(coordinates, without.project(tensors[1:], 3), atol=1e-6)
