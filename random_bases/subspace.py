"""A random subspace of the parameters: a list of tensors <-> compartments <-> bases.

Pure functions of tensors: no variables, no Keras. The coordinates of all compartments are one vector
of d numbers, in the compartments' order.
"""

import functools
import operator
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import bases
from random_bases.bases.basis import Basis, differentiable, linear_map
from random_bases.bases.kronecker import KroneckerBasis, Matrix, draw_together, matrix_of
from random_bases.bases.tiles import unknown_one
from random_bases.compartments import Allocation, Compartments, allocate, defaults, split
from random_bases.sampling.seeds import Seed, as_seed
from random_bases.tensors import as_shapes, float_tensor, int32_scalar, size_of


class _Group:
    """Compartments of one size and one number of dimensions: one program serves them all."""

    def __init__(self, basis: Basis):
        self.basis = basis
        self.members: List[int] = []

    def map(self, method: str, parts: List[Tensor], seed: Tensor, draws: List[Tensor], firsts: List[Tensor]):
        """The basis's `method` of each member; a device-side loop if there are several."""
        traced = getattr(self.basis, "trace_" + method)
        if len(parts) == 1:
            return [traced(parts[0], seed, draws[0], firsts[0])]
        signature = tf.TensorSpec(None)
        mapped = tf.map_fn(
            lambda member: traced(member[0], seed, *member[1:]),
            (tf.stack(parts), tf.stack(draws), tf.stack(firsts)),
            fn_output_signature=(signature, signature) if method == "sketch" else signature,
            parallel_iterations=1,
        )
        return [
            tf.nest.map_structure(operator.itemgetter(position), mapped) for position in range(len(parts))
        ]


class Subspace:
    """d random directions of the parameters of a network, compartment by compartment.

    Args:
      shapes: the shape of each variable.
      dimensions: d, the total over compartments.
      basis: a basis's name, or a `Basis` of size D and d directions (D parameters in all): with
        several compartments, each gets one of the same kind.
      compartments: as in `random_bases.compartments.split`; None: "variable" with "kronecker", which
        allows no other, else "network".
      allocation: as in `random_bases.compartments.allocate`; None: "proportional" with "kronecker", else
        "even".
      paths: the variables' paths; needed for `compartments="layer"`.
      matrices: of "kronecker": the (positions, inputs, outputs) of each variable; by default as
        `bases.kronecker.matrix_of` tells from shapes.
      firsts: the number of each compartment's first direction; by default they follow one another.

    Raises:
      ValueError, TypeError: for what cannot be done, naming the argument.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        dimensions: int,
        basis: Union[str, Basis] = "normal",
        compartments: Optional[Compartments] = None,
        allocation: Optional[Allocation] = None,
        paths: Optional[Sequence[str]] = None,
        matrices: Optional[Sequence[Matrix]] = None,
        firsts: Optional[Sequence[int]] = None,
    ):
        self.shapes = as_shapes(shapes)
        sizes = [size_of(shape) for shape in self.shapes]
        self.size = sum(sizes)
        self.dimensions = dimensions
        self._variable_sizes = sizes
        factored = isinstance(basis, str) and basis == "kronecker"
        compartments, allocation = defaults(basis, compartments, allocation)
        if factored and compartments != "variable":
            raise ValueError(
                f'compartments={compartments!r} is not possible with basis="kronecker", whose '
                'directions are of a variable each; allowed: "variable".'
            )
        self._split = split(sizes, compartments, paths)
        self.compartment_sizes = self._split.sizes
        self.compartment_dimensions = allocate(self._split.sizes, dimensions, allocation)
        if isinstance(basis, Basis) and (basis.size, basis.dimensions) != (self.size, dimensions):
            raise ValueError(
                f"basis={basis!r} must have size={self.size}, the number of parameters, and "
                f"dimensions={dimensions}."
            )
        # With compartments="variable", the compartment of each variable that has elements.
        self.compartment_of = {i: k for k, i in enumerate(i for i, size in enumerate(sizes) if size)}
        # Of "kronecker", one for each compartment.
        self._matrices: Optional[List[Matrix]] = None
        if factored:
            each = [matrix_of(shape) for shape in self.shapes] if matrices is None else matrices
            self._matrices = [each[i] for i in self.compartment_of]
        self._groups: Dict[Tuple[int, int, Optional[Matrix]], _Group] = {}
        for index, (size, count) in enumerate(zip(self.compartment_sizes, self.compartment_dimensions)):
            matrix = None if self._matrices is None else self._matrices[index]
            key = (size, count, matrix)
            if key not in self._groups:
                options = {} if matrix is None else {"matrix": matrix}
                self._groups[key] = _Group(bases.get(basis, size, count, **options))
            self._groups[key].members.append(index)
        if firsts is None:
            firsts = np.cumsum([0, *self.compartment_dimensions])[:-1].tolist()
        self.firsts = tuple(firsts)
        self._basis = basis
        self._programs = _programs_of(self)

    @property
    def order(self) -> Tuple[int, ...]:
        """The variables' positions in the order in which they are concatenated and cut into compartments."""
        return self._split.order

    def split(self, c: Tensor) -> List[Tensor]:
        """The coordinates of each compartment, of those of all, [d]."""
        return tf.split(c, list(self.compartment_dimensions))

    def restricted(self, variables: Sequence[int]) -> "Subspace":
        """The same directions of some variables, by their positions; with compartments="variable" only.

        Each of them must have elements.
        """
        compartments = [self.compartment_of[i] for i in variables]
        dimensions = [self.compartment_dimensions[k] for k in compartments]
        return Subspace(
            [self.shapes[i] for i in variables],
            sum(dimensions),
            self._basis,
            "variable",
            dimensions,
            matrices=None if self._matrices is None else [self._matrices[k] for k in compartments],
            firsts=[self.firsts[k] for k in compartments],
        )

    @property
    def compartment_bases(self) -> List[Basis]:
        """The basis of each compartment; equal ones are one object."""
        bases_of = {i: group.basis for group in self._groups.values() for i in group.members}
        return [bases_of[i] for i in range(len(bases_of))]

    def project(self, tensors: Sequence[Tensor], seed: Seed, draw=0, first=0) -> Tensor:
        """P^T v: the coordinates of a list of tensors.

        Args:
          tensors: floating-point tensors of the variables' shapes.
          seed: an int or int32 [2].
          draw: int32, the number of the redraw; if the subspace is `entrywise`, also one for each
            direction, [d].
          first: int32 scalar, the number of the subspace's first direction among those of a run: workers
            whose directions must differ number them one after the other.

        Returns:
          float32 [d].
        """
        return self._run(self._project, self._checked(tensors), seed, draw, first)

    def expand(self, c: Tensor, seed: Seed, draw=0, first=0) -> List[Tensor]:
        """P c: float32 tensors of the variables' shapes, from coordinates `c`, float32 [d]."""
        c = float_tensor("c", c, (self.dimensions,))
        return self._run(self._expand, [c], seed, draw, first)

    def sketch(self, tensors: Sequence[Tensor], seed: Seed, draw=0, first=0) -> Tuple[Tensor, List[Tensor]]:
        """(P^T v, P P^T v): coordinates, float32 [d], and float32 tensors of the variables' shapes."""
        c, *parts = self._run(self._sketch, self._checked(tensors), seed, draw, first)
        return c, parts

    @property
    def entrywise(self) -> bool:
        """Whether `trace_directions` needs no memory beside its result."""
        return all(group.basis.entrywise for group in self._groups.values())

    def trace_directions(self, indices: Tensor, seed: Tensor, draws: Tensor) -> List[Tensor]:
        """Single directions, P's columns, to be traced into a compiled program that uses them.

        Args:
          indices: int32 [k], each in [0, d).
          seed: int32 [2].
          draws: int32 [k], the number of the redraw of each.

        Returns:
          float32 tensors [k, *shape] for the variables' shapes.
        """
        if not self.entrywise:
            one_hot = tf.one_hot(indices, self.dimensions)
            return tf.map_fn(
                lambda row: self._expand([row[0]], seed, row[1], tf.constant(0)),
                (one_hot, draws),
                fn_output_signature=[tf.TensorSpec(shape) for shape in self.shapes],
                parallel_iterations=1,
            )
        tensors = [None] * len(self.shapes)
        start = 0
        for i in self._split.order:
            elements = start + tf.range(self._variable_sizes[i])
            entries = self.trace_entries(indices, seed, draws, elements)
            tensors[i] = tf.reshape(entries, [indices.shape[0], *self.shapes[i]])
            start += self._variable_sizes[i]
        return tensors

    @property
    def starts(self) -> List[int]:
        """Where each variable begins among all elements, in the compartments' order."""
        starts, start = [0] * len(self.shapes), 0
        for i in self._split.order:
            starts[i], start = start, start + self._variable_sizes[i]
        return starts

    def trace_entries(self, indices: Tensor, seed: Tensor, draws: Tensor, elements: Tensor) -> Tensor:
        """Entries of single directions, if the subspace is `entrywise`; to be traced as `trace_directions`.

        One formula for all elements: a compiler that had to join pieces would generate samples over and
        over.

        Args:
          indices, seed, draws: as in `trace_directions`.
          elements: of the directions, int32 [n], numbered as `starts` does.

        Returns:
          float32 [k, n].
        """
        compartments = np.repeat(np.arange(len(self.compartment_sizes)), self.compartment_dimensions)
        mine = tf.gather(tf.constant(compartments, tf.int32), indices)[:, tf.newaxis]
        sizes = tf.gather(tf.constant(self.compartment_sizes, tf.int32), mine)
        first = tf.gather(tf.constant(np.cumsum([0, *self.compartment_sizes])[:-1], tf.int32), mine)
        local = elements - first
        entries = tf.zeros_like(local, tf.float32)
        for basis, members in self._kinds():
            key = basis.trace_key(seed, draws[:, tf.newaxis])
            drawn = basis.trace_entries(key, indices[:, tf.newaxis], tf.maximum(local, 0))
            of_kind = tf.gather(tf.constant(np.isin(np.arange(len(self.compartment_sizes)), members)), mine)
            entries += tf.where(of_kind & (local >= 0) & (local < sizes), drawn, 0.0)
        return entries * tf.math.rsqrt(tf.cast(sizes, tf.float32))

    def _kinds(self) -> List[Tuple[Basis, List[int]]]:
        """Bases that draw different entries, most often one, and the compartments that draw theirs."""
        kinds: Dict[str, Tuple[Basis, List[int]]] = {}
        for group in self._groups.values():
            kind = group.basis.kind_of_entries()
            kinds.setdefault(kind, (group.basis, []))[1].extend(group.members)
        return list(kinds.values())

    def _run(self, method: Callable, values: List[Tensor], seed: Seed, draw, first):
        # One program for all compartments, and for all equal subspaces.
        program = self._programs.setdefault(method.__name__, differentiable(method))
        return program(values, as_seed(seed), self._checked_draw(draw), int32_scalar("first", first))

    def _checked_draw(self, draw) -> Tensor:
        if not tf.is_tensor(draw) or draw.shape.rank == 0:
            return int32_scalar("draw", draw)
        if draw.dtype != tf.int32 or draw.shape != (self.dimensions,) or not self.entrywise:
            raise ValueError(
                f"draw has dtype {draw.dtype.name} and shape {tuple(draw.shape)}; allowed: an integer scalar "
                f"or, with bases of independent entries, int32 of shape ({self.dimensions},)."
            )
        return draw

    def _checked(self, tensors: Sequence[Tensor]) -> List[Tensor]:
        if len(tensors) != len(self.shapes):
            raise ValueError(f"tensors has {len(tensors)} entries; allowed: {len(self.shapes)}.")
        return [
            float_tensor(f"tensors[{i}]", tensor, shape)
            for i, (tensor, shape) in enumerate(zip(tensors, self.shapes))
        ]

    def _project(self, tensors: Sequence[Tensor], *address: Tensor) -> Tensor:
        def project(*arguments):
            parts = self._map("project", self._flatten(arguments[:-3]), arguments[-3:])
            return tf.concat(parts, axis=0)

        def adjoint(upstream, *address):
            return self._expand([upstream], *address)

        return linear_map(project, adjoint, _float32(tensors), address)

    def _expand(self, coordinates: Sequence[Tensor], *address: Tensor) -> List[Tensor]:
        def expand(c, *address):
            return self._unflatten(self._map("expand", self.split(c), address))

        def adjoint(*upstream_and_address):
            return self._project(upstream_and_address[:-3], *upstream_and_address[-3:])

        return linear_map(expand, adjoint, _float32(coordinates), address)

    def _sketch(self, tensors: Sequence[Tensor], *address: Tensor) -> List[Tensor]:
        """The coordinates and the tensors' parts, in one list."""

        def sketch(*arguments):
            results = self._map("sketch", self._flatten(arguments[:-3]), arguments[-3:])
            c = tf.concat([result[0] for result in results], axis=0)
            return [c, *self._unflatten([result[1] for result in results])]

        def adjoint(upstream_c, *rest):
            upstream, address = rest[:-3], rest[-3:]
            return self._expand([upstream_c + self._project(upstream, *address)], *address)

        return linear_map(sketch, adjoint, _float32(tensors), address)

    def _map(self, method: str, parts: List[Tensor], address: Sequence[Tensor]) -> list:
        """What "project", "expand" or "sketch" of its basis gives for each compartment."""
        seed, draw, first = address
        if draw.shape.rank:
            draws = tf.split(draw, list(self.compartment_dimensions))
        else:
            draws = [draw] * len(parts)
        firsts = [first + tf.constant(number, tf.int32) for number in self.firsts]
        results: Dict[int, Any] = {}
        # One generator draws all factors: one for each weight would take minutes to compile.
        factored = {
            i: basis for i, basis in enumerate(self.compartment_bases) if isinstance(basis, KroneckerBasis)
        }
        if factored:
            one = unknown_one(parts[0])
            numbers = tf.stack([firsts[i] for i in factored])
            for i, drawn in zip(factored, draw_together(list(factored.values()), one, seed, draw, numbers)):
                results[i] = getattr(factored[i], method + "_drawn")(parts[i], drawn)
        for group in self._groups.values():
            if group.members[0] not in factored:
                mapped = group.map(
                    method,
                    [parts[i] for i in group.members],
                    seed,
                    [draws[i] for i in group.members],
                    [firsts[i] for i in group.members],
                )
                results.update(zip(group.members, mapped))
        return [results[i] for i in range(len(parts))]

    def _flatten(self, tensors: List[Tensor]) -> List[Tensor]:
        """The compartments' parts of the concatenated parameters."""
        flat = [tf.reshape(tensors[i], [-1]) for i in self._split.order]
        return tf.split(tf.concat(flat, axis=0), list(self.compartment_sizes))

    def _unflatten(self, parts: List[Tensor]) -> List[Tensor]:
        sizes = [self._variable_sizes[i] for i in self._split.order]
        pieces = tf.split(tf.concat(parts, axis=0), sizes)
        tensors = [None] * len(pieces)
        for i, piece in zip(self._split.order, pieces):
            tensors[i] = tf.reshape(piece, self.shapes[i])
        return tensors


@functools.lru_cache(maxsize=32)
def _shared_programs(key: Tuple[Any, ...]) -> Dict[str, Callable]:
    """The programs of all subspaces with this key, also of those to come: 32 keys, the latest used."""
    return {}


def _programs_of(subspace: Subspace) -> Dict[str, Callable]:
    """Compiled programs by name. Subspaces that are equal draw and compute the same: one compiles for all."""
    drawn = subspace.compartment_bases
    if not all(basis.seeded for basis in drawn):
        return {}  # what a basis stores its configuration does not tell
    described = [(type(basis), repr(basis.get_config())) for basis in drawn]
    return _shared_programs((tuple(subspace.shapes), subspace.order, subspace.firsts, *described))


def _float32(tensors: Sequence[Tensor]) -> List[Tensor]:
    return [tf.cast(tensor, tf.float32) for tensor in tensors]
