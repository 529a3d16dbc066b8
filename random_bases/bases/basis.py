"""The interface of a basis: a linear map P from d coordinates to n elements, drawn from a seed.

Direction i is P's column i. Columns have unit length in expectation: E[P P^T] = (d / n) I.
"""

import functools
from typing import Any, Callable, Dict, List, Sequence, Tuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments
from random_bases.bases.tiles import unknown_one, with_unknown_one
from random_bases.device import in_whole_program
from random_bases.sampling.seeds import Seed, as_seed
from random_bases.sampling.tracing import unwatched, without_checks
from random_bases.tensors import densify, float_tensor, int32_scalar


class Basis:
    """A linear map P: R^d -> R^n that a seed generates and nothing stores.

    P is a pure function of (seed, draw, first): `draw` counts redraws, `first` is the number of the
    basis's first direction among all directions of a run, so that bases of different compartments or
    workers never share directions.

    `expand`, `project` and `sketch` each run as one compiled (XLA) program, called eagerly or from
    inside any `tf.function`, and can be differentiated any number of times: the gradient of one is the
    other, drawn again. They compute in float32.

    Subclasses define `trace_project`, `trace_expand` and, if one pass can serve both, `trace_sketch`,
    and `get_config`.

    Args:
      size: n, the length of a direction.
      dimensions: d, the number of directions, 1 <= d <= n.

    Raises:
      TypeError: if either is not an int.
      ValueError: if it is out of range.
    """

    def __init__(self, size: int, dimensions: int):
        self.size = arguments.integer("size", size, 1)
        self.dimensions = arguments.integer("dimensions", dimensions, 1, self.size)
        self._programs: Dict[str, Callable] = {}

    # What a subclass defines: pure functions of float32 tensors and int32 (seed, draw, first), to be
    # traced into a compiled program.

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        raise NotImplementedError

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        raise NotImplementedError

    def trace_sketch(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        c = self.trace_project(v, seed, draw, first)
        return c, self.trace_expand(c, seed, draw, first)

    # Whether P^T P = I exactly, and whether P depends on the seed.
    orthonormal = False
    seeded = True
    # Whether single entries of P can be told without all others, by the two methods that follow.
    entrywise = False

    def kind_of_entries(self) -> str:
        """Equal for bases that draw the same entries, before the factor 1 / sqrt(n)."""
        config = self.get_config()
        return repr({name: config[name] for name in sorted({*config} - {"size", "dimensions"})})

    def trace_key(self, seed: Tensor, draw: Tensor) -> Tensor:
        """What `trace_entries` draws from: int32 [2, *draw.shape]."""
        raise NotImplementedError

    def trace_entries(self, key: Tensor, direction: Tensor, elements: Tensor) -> Tensor:
        """sqrt(n) times P's entries at `elements` of directions of these numbers (of the run), broadcast."""
        raise NotImplementedError

    def get_config(self) -> Dict[str, Any]:
        """Arguments that rebuild the basis with `type(basis)(**config)`."""
        return {"size": self.size, "dimensions": self.dimensions}

    # What a user calls.

    def project(self, v, seed: Seed, draw=0, first=0) -> Tensor:
        """P^T v, the coordinates of `v`.

        Args:
          v: floating-point array or tensor of shape [n].
          seed: an int, or int32 [2].
          draw: int32 scalar, the number of the redraw.
          first: int32 scalar, the number of the basis's first direction.

        Returns:
          float32 [d].

        Raises:
          ValueError: if `v` has another shape.
        """
        v = float_tensor("v", v, (self.size,))
        return self._run(self._project, v, seed, draw, first)

    def expand(self, c, seed: Seed, draw=0, first=0) -> Tensor:
        """P c, the point with coordinates `c`.

        Args:
          c: floating-point array or tensor of shape [d].
          seed, draw, first: as in `project`.

        Returns:
          float32 [n].

        Raises:
          ValueError: if `c` has another shape.
        """
        c = float_tensor("c", c, (self.dimensions,))
        return self._run(self._expand, c, seed, draw, first)

    def sketch(self, v, seed: Seed, draw=0, first=0) -> Tuple[Tensor, Tensor]:
        """(P^T v, P P^T v): the coordinates of `v` and its part in the subspace, in one go.

        Args:
          v: floating-point array or tensor of shape [n].
          seed, draw, first: as in `project`.

        Returns:
          float32 [d] and float32 [n].

        Raises:
          ValueError: if `v` has another shape.
        """
        v = float_tensor("v", v, (self.size,))
        return self._run(self._sketch, v, seed, draw, first)

    # The same as linear maps that know their gradients.

    def _project(self, v: Tensor, *address: Tensor) -> Tensor:
        return linear_map(self.trace_project, self._expand, [v], address)

    def _expand(self, c: Tensor, *address: Tensor) -> Tensor:
        return linear_map(self.trace_expand, self._project, [c], address)

    def _sketch(self, v: Tensor, *address: Tensor) -> Tuple[Tensor, Tensor]:
        def adjoint(upstream_c, upstream_v, *address):
            return self._expand(upstream_c + self._project(upstream_v, *address), *address)

        return linear_map(self.trace_sketch, adjoint, [v], address)

    def __getstate__(self):
        # Programs are compiled again where the copy is used.
        return {**self.__dict__, "_programs": {}}

    def _run(self, method: Callable, value: Tensor, seed: Seed, draw, first):
        program = self._programs.setdefault(method.__name__, differentiable(method))
        address = as_seed(seed), int32_scalar("draw", draw), int32_scalar("first", first)
        return program(tf.cast(value, tf.float32), *address)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def compiled(function: Callable) -> Callable:
    """`function` as one XLA program, also where its caller is not compiled.

    Uncompiled, every sample would reach memory, and a run that was once compiled and once not would
    not continue bit for bit. Its arguments must be tensors: an int would give a program for each value.
    A program for the IPU, which is compiled as a whole in any case, gets it as a part.
    """
    program = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*arguments):
        if in_whole_program():
            return function(*arguments)
        with without_checks():
            return program(*arguments)

    call.program = program  # type: ignore[attr-defined]
    return call


def differentiable(function: Callable) -> Callable:
    """`compiled(function)`, whose gradient is a program of its own, and so is that one's.

    TensorFlow would trace the gradient of a program where a tape asks for it: with `tf.debugging`'s checks in
    it. Arguments and results are tensors, or lists of them; those that are no floats have no gradient.
    """
    program = compiled(function)

    def pull_back(arguments, upstream):
        floats = _floats(arguments)
        with tf.GradientTape() as tape:
            tape.watch(floats)
            results = tf.nest.flatten(function(*arguments))
        return tape.gradient(results, floats, upstream, unconnected_gradients="zero")

    @functools.lru_cache(maxsize=None)
    def derivative():
        return differentiable(pull_back)

    @functools.wraps(function)
    def call(*arguments):
        if in_whole_program():
            return program(*arguments)

        @tf.custom_gradient
        def apply(*flat):
            here = tf.nest.pack_sequence_as(arguments, flat)
            results = program(*tf.nest.pack_sequence_as(arguments, unwatched(flat)))
            shapes = [result.shape for result in tf.nest.flatten(results)]

            def gradient(*upstream):
                upstream = [densify(gradient, shape) for gradient, shape in zip(upstream, shapes)]
                found = iter(derivative()(here, upstream))
                return [next(found) if tensor.dtype.is_floating else None for tensor in flat]

            return results, gradient

        return apply(*tf.nest.flatten(arguments))

    call.program = program.program  # type: ignore[attr-defined]
    return call


def _floats(tensors: Any) -> List[Tensor]:
    return [tensor for tensor in tf.nest.flatten(tensors) if tensor.dtype.is_floating]


def linear_map(function: Callable, adjoint: Callable, values: Sequence[Tensor], address: Sequence[Tensor]):
    """function(*values, *address), linear in `values`, with the gradient adjoint(*upstream, *address).

    Without it, TensorFlow would differentiate the loops inside, keeping all samples. The adjoint may
    be such a map itself: then derivatives of every order are right.
    """

    @tf.custom_gradient
    def apply(*arguments):
        # Tensors of this graph: the gradient's own gradient is built where outer ones are out of reach.
        here = [tf.identity(tensor) for tensor in arguments[len(values) :]]
        some = next(value for value in arguments if value.shape.num_elements())  # a variable may be empty
        one = tf.identity(unknown_one(some))

        def gradient(*upstream):
            with with_unknown_one(one):
                return [*tf.nest.flatten(adjoint(*upstream, *here)), *([None] * len(here))]

        # No other tape shall prepare to differentiate it: that would keep what its loops go through.
        with with_unknown_one(one):
            return function(*unwatched(arguments)), gradient

    return apply(*values, *address)
