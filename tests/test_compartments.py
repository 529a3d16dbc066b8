import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from random_bases.compartments import Split, allocate, split

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=12)


@st.composite
def sizes_and_dimensions(draw):
    sizes = draw(SIZES)
    return sizes, draw(st.integers(len(sizes), sum(sizes)))


# --- Split ----------------------------------------------------------------------------------------


def test_examples_of_each_kind():
    sizes = [12, 3, 20, 4]
    in_order = (0, 1, 2, 3)
    assert split(sizes) == split(sizes, "network") == Split(in_order, (39,))
    assert split(sizes, "variable") == Split(in_order, (12, 3, 20, 4))
    assert split(sizes, 1) == Split(in_order, (39,))
    assert split(sizes, 3) == Split(in_order, (13, 13, 13))
    assert split(sizes, 5) == Split(in_order, (8, 8, 8, 8, 7))
    assert split(sizes, 39) == Split(in_order, (1,) * 39)
    assert split(sizes, [10, 29]) == split(sizes, (10, 29)) == Split(in_order, (10, 29))
    paths = ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]
    assert split(sizes, "layer", paths) == Split(in_order, (15, 24))


def test_a_layer_is_a_path_without_its_last_part():
    """Its variables need not be neighbours; layers come in the order of their first variables."""
    paths = ["b/kernel", "a/kernel", "b/bias", "a/cell/kernel", "scale", "a/bias", "a/cell/bias", "gain"]
    sizes = [1, 2, 4, 8, 16, 32, 64, 128]
    expected = {"b": (0, 2), "a": (1, 5), "a/cell": (3, 6), "": (4, 7)}
    found = split(sizes, "layer", paths)
    assert found.order == sum(expected.values(), ())
    assert found.sizes == tuple(sum(sizes[i] for i in members) for members in expected.values())


def test_layers_of_one_name_are_told_apart():
    """Keras 2's paths do not tell in which model a layer is."""
    paths = ["dense/kernel", "out/kernel", "dense/kernel", "dense/bias", "dense/kernel", "dense/bias"]
    assert split([1, 2, 4, 8, 16, 32], "layer", paths) == Split((0, 1, 2, 3, 4, 5), (1, 2, 12, 48))


def test_variables_without_elements_are_in_no_compartment():
    paths = ["a/kernel", "b/kernel", "a/bias"]
    assert split([3, 0, 4]) == Split((0, 1, 2), (7,))
    assert split([3, 0, 4], "variable") == Split((0, 1, 2), (3, 4))
    assert split([3, 0, 4], "layer", paths) == Split((0, 2, 1), (7,))
    with pytest.raises(ValueError, match="sizes=.0, 0.: at least one variable with an element"):
        split([0, 0])


@given(sizes=SIZES, data=st.data())
def test_a_split_holds_every_parameter_once(sizes, data):
    total = sum(sizes)
    layers = data.draw(st.lists(st.sampled_from("abc"), min_size=len(sizes), max_size=len(sizes)))
    paths = [f"{layer}/v{i}" for i, layer in enumerate(layers)]
    number = data.draw(st.integers(1, total))
    cuts = data.draw(st.sets(st.integers(1, total - 1), max_size=5)) if total > 1 else set()
    given_sizes = np.diff([0, *sorted(cuts), total]).tolist()
    for compartments in ("network", "layer", "variable", number, given_sizes):
        found = split(sizes, compartments, paths)
        assert sorted(found.order) == list(range(len(sizes)))
        assert sum(found.sizes) == total and min(found.sizes) >= 1
        assert all(type(size) is int for size in found.sizes)
    equal = split(sizes, number).sizes
    assert len(equal) == number and max(equal) - min(equal) <= 1
    assert split(sizes, given_sizes).sizes == tuple(given_sizes)
    by_layer = split(sizes, "layer", paths)
    assert len(by_layer.sizes) == len(set(layers))
    # Each compartment is one layer's variables, in order.
    start = 0
    for size, layer in zip(by_layer.sizes, dict.fromkeys(layers)):
        members = [i for i, of in enumerate(layers) if of == layer]
        assert list(by_layer.order[start : start + len(members)]) == members
        assert size == sum(sizes[i] for i in members)
        start += len(members)


@pytest.mark.parametrize(
    ("sizes", "compartments", "paths", "error", "match"),
    [
        ([], "network", None, ValueError, "sizes="),
        ([0, 0], "network", None, ValueError, "sizes="),
        ([3, 4], "block", None, ValueError, "compartments='block'"),
        ([3, 4], "layer", None, ValueError, "paths=None"),
        ([3, 4], "layer", ["a/kernel"], ValueError, "paths="),
        ([3, 4], 0, None, ValueError, "compartments=0.*1 to 7"),
        ([3, 4], -1, None, ValueError, "compartments=-1"),
        ([3, 4], 8, None, ValueError, "compartments=8.*1 to 7"),
        ([3, 4], [3, 3], None, ValueError, r"compartments=\[3, 3\].*6.*7"),
        ([3, 4], [8, -1], None, ValueError, r"compartments\[1\]=-1"),
        ([3, 4], [7, 0], None, ValueError, r"compartments\[1\]=0"),
        ([3, 4], [3.5, 3.5], None, TypeError, r"compartments\[0\]=3.5"),
        ([3, 4], [True] * 7, None, TypeError, r"compartments\[0\]=True"),
        ([3, 4], [], None, ValueError, "compartments="),
        ([3, 4], True, None, TypeError, "compartments=True"),
        ([3, 4], 2.0, None, TypeError, "compartments=2.0"),
        ([3, 4], None, None, TypeError, "compartments=None"),
    ],
)
def test_a_split_that_cannot_be_is_refused_by_name(sizes, compartments, paths, error, match):
    with pytest.raises(error, match=match):
        split(sizes, compartments, paths)


# --- Allocation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "dimensions", "allocation", "expected"),
    [
        ([100, 100, 100], 25, "even", (9, 8, 8)),
        ([100, 100, 100], 26, "even", (9, 9, 8)),
        ([100, 2, 100], 25, "even", (12, 2, 11)),  # what exceeds a size goes to the others
        ([1, 2, 3], 6, "even", (1, 2, 3)),
        ([1, 100], 2, "even", (1, 1)),
        ([100, 300], 40, "proportional", (10, 30)),
        ([100, 300], 41, "proportional", (10, 31)),  # quotas 10.25 and 30.75
        ([100, 300], 42, "proportional", (11, 31)),  # 10.5 and 31.5: the first of equals
        ([1, 1, 998], 10, "proportional", (1, 1, 8)),  # at least one each
        ([784 * 128, 128, 1280, 10], 250, "proportional", (245, 1, 3, 1)),
        ([30, 20], 50, "proportional", (30, 20)),
        ([30, 20], 12, [10, 2], (10, 2)),
        ([30, 20], 12, (1, 11), (1, 11)),
        ([30, 20], np.int64(12), np.array([1, 11]), (1, 11)),
    ],
)
def test_examples_of_each_allocation(sizes, dimensions, allocation, expected):
    assert allocate(sizes, dimensions, allocation) == expected


def test_even_is_what_is_not_given():
    assert allocate([5, 50, 50], 40) == allocate([5, 50, 50], 40, "even")


@pytest.mark.parametrize("allocation", ["even", "proportional"])
@given(sizes_and_dimensions())
def test_the_total_is_exact_and_each_share_is_possible(allocation, example):
    sizes, dimensions = example
    found = allocate(sizes, dimensions, allocation)
    assert sum(found) == dimensions and len(found) == len(sizes)
    assert all(type(share) is int and 1 <= share <= size for share, size in zip(found, sizes))


@given(sizes_and_dimensions())
def test_even_shares_differ_by_one_at_most_unless_a_size_caps_them(example):
    sizes, dimensions = example
    found = allocate(sizes, dimensions, "even")
    # A share below the largest by more than one is all that its compartment has.
    assert all(share == size for share, size in zip(found, sizes) if share < max(found) - 1)


def water_level(weights, sizes, dimensions):
    """The shares of real numbers, min(size, max(1, level * weight)) with the level that makes the sum."""
    low, high = 0.0, float(dimensions) / min(weights)
    for _ in range(200):
        level = (low + high) / 2
        shares = [min(size, max(1.0, level * weight)) for size, weight in zip(sizes, weights)]
        low, high = (level, high) if sum(shares) < dimensions else (low, level)
    return shares


@pytest.mark.parametrize("allocation", ["even", "proportional"])
@given(sizes_and_dimensions())
def test_shares_are_within_one_of_their_quota(allocation, example):
    """The quota as another algorithm finds it: filling all compartments to one level."""
    sizes, dimensions = example
    weights = sizes if allocation == "proportional" else [1.0] * len(sizes)
    quotas = water_level(weights, sizes, dimensions)
    for share, quota in zip(allocate(sizes, dimensions, allocation), quotas):
        assert abs(share - quota) < 1 + 1e-9


@pytest.mark.parametrize("allocation", ["even", "proportional"])
@given(sizes_and_dimensions())
def test_a_larger_compartment_has_no_smaller_share(allocation, example):
    sizes, dimensions = example
    shares = dict(zip(sizes, allocate(sizes, dimensions, allocation)))
    assume(len(shares) == len(sizes))  # of equal ones, the first has the remainder
    in_order = [shares[size] for size in sorted(shares)]
    if allocation == "proportional":
        assert in_order == sorted(in_order)
    else:
        assert all(b >= a - 1 for a, b in zip(in_order, in_order[1:]))


@pytest.mark.parametrize(
    ("sizes", "dimensions", "allocation", "error", "match"),
    [
        ([10, 10, 10], 2, "even", ValueError, "dimensions=2.*3 compartments"),
        ([10, 10], 0, "even", ValueError, "dimensions=0"),
        ([10, 10], 21, "proportional", ValueError, "dimensions=21.*20"),
        ([10, 10], 5.0, "even", TypeError, "dimensions=5.0"),
        ([10, 10], True, "even", TypeError, "dimensions=True"),
        ([10, 10], 5, "random", ValueError, "allocation='random'"),
        ([10, 10], 5, None, TypeError, "allocation=None"),
        ([10, 10], 5, 5, TypeError, "allocation=5"),
        ([10, 10], 5, [5], ValueError, "allocation="),
        ([10, 10], 5, [2, 2], ValueError, "allocation=.*dimensions=5"),
        ([10, 10], 5, [5, 0], ValueError, r"allocation\[1\]=0"),
        ([10, 10], 5, [2.5, 2.5], TypeError, r"allocation\[0\]=2.5"),
        ([10, 10], 5, [1, 1, 3], ValueError, "allocation="),
        ([10, 10], 12, [1, 11], ValueError, r"allocation\[1\]=11.*10"),
        ([10, 10], 30, [15, 15], ValueError, "dimensions=30"),
    ],
)
def test_an_allocation_that_cannot_be_is_refused_by_name(sizes, dimensions, allocation, error, match):
    with pytest.raises(error, match=match):
        allocate(sizes, dimensions, allocation)
