"""How the parameters are split into compartments, and how dimensions are shared out among them.

A compartment is a run of consecutive parameters that has its own, independent basis
(Gressmann et al. 2020, section 4.3). Pure functions of shapes, names and numbers.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from random_bases.arguments import integer, is_int, plain

Compartments = Union[str, int, Sequence[int]]
Allocation = Union[str, Sequence[int]]


def defaults(
    basis: object, compartments: Optional[Compartments], allocation: Optional[Allocation]
) -> Tuple[Compartments, Allocation]:
    """What None stands for: a factored basis is of a variable each, with dimensions in proportion."""
    factored = isinstance(basis, str) and basis == "kronecker"
    if compartments is None:
        compartments = "variable" if factored else "network"
    if allocation is None:
        allocation = "proportional" if factored else "even"
    return compartments, allocation


class Split(NamedTuple):
    """A split of a list of variables into compartments.

    Attributes:
      order: the variables' positions in the order in which they are concatenated.
      sizes: the number of parameters of each compartment, consecutive in that order.
    """

    order: Tuple[int, ...]
    sizes: Tuple[int, ...]


def split(
    sizes: Sequence[int],
    compartments: Compartments = "network",
    paths: Optional[Sequence[str]] = None,
) -> Split:
    """Splits variables into compartments.

    Args:
      sizes: the number of elements of each variable.
      compartments: "network": one; "layer": one for each layer, a layer being a variable's path
        without its last part; "variable": one for each variable; an int: that many parts of the
        concatenated parameters, equal to within one; or a list: their sizes. Variables without
        elements have none.
      paths: the variables' paths ("dense_1/kernel"), needed for "layer".

    Raises:
      ValueError: for a name that does not exist, a number or sizes that do not fit.
      TypeError: if `compartments` is none of these.
    """
    sizes = [int(size) for size in sizes]
    total = sum(sizes)
    if total < 1:
        raise ValueError(f"sizes={sizes!r}: at least one variable with an element is needed.")
    in_order = tuple(range(len(sizes)))
    compartments = plain(compartments)
    if compartments == "network":
        return Split(in_order, (total,))
    if compartments == "variable":
        return Split(in_order, tuple(filter(None, sizes)))
    if compartments == "layer":
        return _split_by_layer(sizes, paths)
    if isinstance(compartments, str):
        raise ValueError(
            f'compartments={compartments!r} is unknown; allowed: "network", "layer", "variable", '
            "an int or a list of sizes."
        )
    if is_int(compartments):
        count = integer("compartments", compartments, 1, total)
        part, longer = divmod(total, count)
        return Split(in_order, tuple(part + (i < longer) for i in range(count)))
    if isinstance(compartments, (list, tuple)):
        given = _positive_ints("compartments", compartments)
        if sum(given) != total:
            raise ValueError(
                f"compartments={list(given)!r} sums to {sum(given)}, but there are {total} parameters."
            )
        return Split(in_order, given)
    raise TypeError(
        f'compartments={compartments!r} must be "network", "layer", "variable", an int or a list of sizes.'
    )


def _split_by_layer(sizes: Sequence[int], paths: Optional[Sequence[str]]) -> Split:
    if paths is None or len(paths) != len(sizes):
        raise ValueError(
            f'compartments="layer" needs the path of each of the {len(sizes)} variables, got paths={paths!r}.'
        )
    layers: List[List[int]] = []  # in order of appearance; a layer's variables need not be neighbours
    latest: Dict[str, List[int]] = {}
    for position, path in enumerate(paths):
        name = path.rpartition("/")[0]
        # A path that comes again is of another layer: Keras 2's do not tell in which model a layer is.
        if name not in latest or path in (paths[member] for member in latest[name]):
            latest[name] = []
            layers.append(latest[name])
        latest[name].append(position)
    return Split(
        tuple(position for members in layers for position in members),
        tuple(filter(None, (sum(sizes[position] for position in members) for members in layers))),
    )


def allocate(sizes: Sequence[int], dimensions: int, allocation: Allocation = "even") -> Tuple[int, ...]:
    """Shares `dimensions` out among compartments; the total is exact.

    Args:
      sizes: the number of parameters of each compartment.
      dimensions: the total to share out.
      allocation: "even": equal to within one, and what exceeds a compartment's size goes to the
        others; "proportional": to size, by the largest remainder, at least 1 and at most its size
        each; or a list: the number for each compartment.

    Raises:
      ValueError: if there are fewer dimensions than compartments or more than parameters, or if a
        given list does not fit.
      TypeError: if an argument has a type that is not allowed.
    """
    sizes = [int(size) for size in sizes]
    dimensions = integer("dimensions", dimensions, 1)
    allocation = plain(allocation)
    if dimensions < len(sizes):
        raise ValueError(
            f"dimensions={dimensions} is fewer than the {len(sizes)} compartments, each of which needs "
            "at least one."
        )
    if dimensions > sum(sizes):
        raise ValueError(f"dimensions={dimensions} is more than the {sum(sizes)} parameters.")
    if allocation == "even":
        return _share([1.0] * len(sizes), sizes, dimensions)
    if allocation == "proportional":
        return _share([float(size) for size in sizes], sizes, dimensions)
    if isinstance(allocation, str):
        raise ValueError(f'allocation={allocation!r} is unknown; allowed: "even", "proportional" or a list.')
    if not isinstance(allocation, (list, tuple)):
        raise TypeError(f'allocation={allocation!r} must be "even", "proportional" or a list.')
    given = _positive_ints("allocation", allocation)
    if len(given) != len(sizes) or sum(given) != dimensions:
        raise ValueError(
            f"allocation={list(given)!r} must have {len(sizes)} entries that sum to dimensions={dimensions}."
        )
    for index, (share, size) in enumerate(zip(given, sizes)):
        if share > size:
            raise ValueError(
                f"allocation[{index}]={share} is more than that compartment's {size} parameters."
            )
    return given


def _share(weights: Sequence[float], sizes: Sequence[int], total: int) -> Tuple[int, ...]:
    """Shares `total` by weight, 1 <= share <= size, fractions by the largest remainder.

    Compartments whose quota lies outside the bounds are fixed at the bound, the others share what is
    left: repeated until none is outside. All quotas are computed before any is fixed, and only those
    on the side that moves the rest further out, so that none is fixed that would fit in the end.
    """
    shares: List[int] = [0] * len(sizes)
    free = set(range(len(sizes)))
    left = total
    while free:
        weight = sum(weights[i] for i in free)
        quota = {i: left * weights[i] / weight for i in free}
        above = {i for i in free if quota[i] > sizes[i]}
        below = {i for i in free if quota[i] < 1}
        surplus = sum(quota[i] - sizes[i] for i in above)
        shortage = sum(1 - quota[i] for i in below)
        if not above and not below:
            break
        fixed = above if surplus >= shortage else below
        for i in fixed:
            shares[i] = sizes[i] if i in above else 1
            left -= shares[i]
        free -= fixed
    for i in free:
        shares[i] = int(quota[i])
    missing = total - sum(shares)
    by_remainder = sorted(free, key=lambda i: (shares[i] - quota[i], i))
    for i in by_remainder[:missing]:
        shares[i] += 1
    return tuple(shares)


def _positive_ints(name: str, values: Sequence[int]) -> Tuple[int, ...]:
    return tuple(integer(f"{name}[{i}]", value, 1) for i, value in enumerate(values))
