"""Weights whose gradients are coordinates from the start: what trains a model in a basis without D numbers.

The forward pass runs with the weights theta as they are. In the backward pass the kernel of a linear layer
gets no gradient of its shape: its coordinates' gradient is computed of the layer's inputs and of what comes
from above (`linear_layers`), with factors that are drawn from the seed once for both passes, m r + n s
numbers for a kernel [m, n]. The gradients of all other weights are projected, in one program.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases import keras_api
from random_bases.bases.basis import compiled
from random_bases.bases.kronecker import Factors, KroneckerBasis, draw_together
from random_bases.bases.tiles import unknown_one
from random_bases.models import linear_layers, tapping
from random_bases.models.linear_layers import LinearLayer
from random_bases.models.parametrisation import Parametrisation
from random_bases.sampling.seeds import as_seed
from random_bases.subspace import Subspace


class _Kernel:
    """A linear layer's kernel and its basis.

    Args:
      linear: the layer.
      variable: the kernel.
      position: of the kernel among the trained variables.
      compartment: its number.
      basis: its basis.
    """

    def __init__(self, linear: LinearLayer, variable, position: int, compartment: int, basis: KroneckerBasis):
        self.linear = linear
        self.variable = variable
        self.position = position
        self.compartment = compartment
        self.basis = basis

    def tap(self, c: Tensor, factors: Factors) -> linear_layers.Tap:
        """What the layer's linear part passes through: its gradient is that of `c`, float32 [d_k]."""
        arrays, rebuild = _flat(factors)

        def tap(x, y):
            @tf.custom_gradient
            def through(y, c, *arrays):
                drawn = rebuild(arrays)
                sides = (drawn.outputs, drawn.inputs) if self.linear.turned else (drawn.inputs, drawn.outputs)
                kept = self.linear.keep(x, sides[0])

                def of_coordinates(u):
                    cores = self.linear.cores(kept, u, sides[1])
                    return self.basis.coordinates(tf.cast(cores, tf.float32), drawn)

                return tf.identity(y), lambda u: (u, _once(of_coordinates)(u), *[None] * len(arrays))

            return through(y, c, *arrays)

        return tap

    def expand(self, c: Tensor, factors: Factors) -> Tensor:
        """P c, of the kernel's shape."""
        return tf.reshape(self.basis.expand_in(c, factors), self.variable.shape)

    def project(self, v: Tensor, factors: Factors) -> Tensor:
        """P^T v, float32 [d_k]."""
        return self.basis.project_in(tf.reshape(v, [-1]), factors)


class Taps:
    """The taps of a model's weights.

    Args:
      parametrisation: of the weights.
      linear: the linear layers whose kernels have a factored basis: id(variable) -> layer.
    """

    def __init__(self, parametrisation: Parametrisation, linear: Dict[int, LinearLayer]):
        self._parametrisation = parametrisation
        variables, subspace = parametrisation.variables, parametrisation.subspace
        self._kernels: List[_Kernel] = []
        if parametrisation.factored:
            of = subspace.compartment_bases
            for i, k in subspace.compartment_of.items():
                basis, variable = of[k], variables[i]
                if id(variable) in linear and isinstance(basis, KroneckerBasis):
                    self._kernels.append(_Kernel(linear[id(variable)], variable, i, k, basis))
        apart = [kernel.position for kernel in self._kernels]
        self._firsts = [subspace.firsts[kernel.compartment] for kernel in self._kernels]
        self._draw = compiled(self._trace_factors)
        # What is projected together: each kernel by itself, for the rare use of it outside of its layer; all
        # others at once.
        others = list(range(len(variables)))
        if parametrisation.factored:
            others = [i for i in subspace.compartment_of if i not in apart]
        self._parts = [_Part(parametrisation, [i]) for i in apart]
        self._rest = _Part(parametrisation, others) if others else None

    def _trace_factors(self, c: Tensor, seed: Tensor, draw: Tensor) -> List[Factors]:
        bases = [each.basis for each in self._kernels]
        return draw_together(bases, unknown_one(c), seed, draw, tf.constant(self._firsts))

    def _factors(self, c: Tensor, draw: Tensor) -> List[Factors]:
        """Of each kernel, in one program; `c` is any float32 vector that is known at run time only."""
        return self._draw(c, self._seed(), draw) if self._kernels else []

    def _seed(self) -> Tensor:
        return as_seed(self._parametrisation.seed)

    def split(self, c: Tensor) -> List[Tensor]:
        """The coordinates of each compartment."""
        return self._parametrisation.subspace.split(c)

    def attach(self, parts: Sequence[Tensor], theta: Sequence[Tensor], draw: Tensor) -> List[Tensor]:
        """`theta` with the gradient of c: that of P c, projected from gradients of the weights' shapes."""
        values = list(theta)
        for part in [*self._parts, *([self._rest] if self._rest else [])]:
            attached = part.attach(parts, [theta[i] for i in part.positions], self._seed(), draw)
            for i, value in zip(part.positions, attached):
                values[i] = value
        return values

    @contextlib.contextmanager
    def rerouted(
        self, substitution, parts: Sequence[Tensor], theta: Sequence[Tensor], draw: Tensor
    ) -> Iterator[None]:
        """A scope in which linear layers' kernels get no gradients but those of coordinates."""
        tapped = [
            tapping.TappedKernel(
                kernel.linear,
                tf.stop_gradient(theta[kernel.position]),
                kernel.tap(parts[kernel.compartment], factors),
            )
            for kernel, factors in zip(self._kernels, self._factors(tf.stop_gradient(parts[0]), draw))
        ]
        with tapping.rerouted(tapping.calls(tapped, substitution)):
            yield

    def take_in(self, c: Tensor, draw: Tensor) -> None:
        """theta0 becomes theta0 + P c, kernel by kernel: P c as a whole never exists."""
        before: List[Any] = []
        parts = self.split(c)
        for kernel, factors in zip(self._kernels, self._factors(c, draw)):
            with tf.control_dependencies(before):
                step = kernel.expand(tf.identity(parts[kernel.compartment]), factors)
                done = _add(kernel.variable, step)
            before = [] if tf.executing_eagerly() else [done]
        if self._rest:
            self._rest.take_in(parts, self._seed(), draw)

    def carried_over(self, vector: Tensor, draw: Tensor, new: Tensor) -> Tensor:
        """P'^T P m of a vector m of coordinates, where P' is the basis of draw `new`."""
        pieces: Dict[int, Tensor] = {}
        parts = self.split(vector)
        factors = self._factors(vector, draw), self._factors(vector, new)
        for kernel, old, next_ in zip(self._kernels, *factors):
            part = kernel.expand(parts[kernel.compartment], old)
            pieces[kernel.compartment] = kernel.project(part, next_)
        if self._rest:
            pieces.update(self._rest.carried_over(parts, self._seed(), draw, new))
        return tf.concat([pieces[i] for i in sorted(pieces)], axis=0)


class _Part:
    """Weights that are projected together: some variables' own compartments, or all of them.

    Args:
      parametrisation: of all weights.
      positions: of these ones.
    """

    def __init__(self, parametrisation: Parametrisation, positions: List[int]):
        self.positions = positions
        self._all = parametrisation.subspace
        self._variables = [parametrisation.variables[i] for i in positions]
        whole = len(positions) == len(parametrisation.variables)
        self._subspace: Subspace = self._all if whole else self._all.restricted(positions)
        # Their compartments: with several variables apart, each variable is one.
        self.compartments = list(range(len(self._all.compartment_sizes)))
        if not whole:
            self.compartments = [self._all.compartment_of[i] for i in positions]

    def _mine(self, parts: Sequence[Tensor]) -> Tensor:
        return tf.concat([parts[i] for i in self.compartments], axis=0)

    def attach(
        self, parts: Sequence[Tensor], theta: Sequence[Tensor], seed: Tensor, draw: Tensor
    ) -> List[Tensor]:
        @tf.custom_gradient
        def attach(c, seed, draw, *theta):
            def of_coordinates(*upstream):
                return self._subspace.project(upstream, seed, draw)

            def gradient(*upstream):
                return [_once(of_coordinates)(*upstream), *[None] * (2 + len(theta))]

            return [tf.identity(tensor) for tensor in theta], gradient

        return attach(self._mine(parts), seed, draw, *(tf.stop_gradient(tensor) for tensor in theta))

    def take_in(self, parts: Sequence[Tensor], seed: Tensor, draw: Tensor) -> None:
        for variable, step in zip(self._variables, self._subspace.expand(self._mine(parts), seed, draw)):
            _add(variable, step)

    def carried_over(
        self, parts: Sequence[Tensor], seed: Tensor, draw: Tensor, new: Tensor
    ) -> Dict[int, Tensor]:
        carried = self._subspace.project(self._subspace.expand(self._mine(parts), seed, draw), seed, new)
        pieces = tf.split(carried, list(self._subspace.compartment_dimensions))
        return dict(zip(self.compartments, pieces))


def _add(variable, step: Tensor) -> Any:
    return keras_api.tf_variable_of(variable).assign_add(tf.cast(step, variable.dtype))


def _flat(factors: Factors) -> Tuple[List[Tensor], Callable[[Sequence[Tensor]], Factors]]:
    """The tensors of `factors`, which a differentiated function gets as arguments, and their way back."""
    absent = [tensor is None for tensor in tf.nest.flatten(factors)]
    arrays = [tensor for tensor in tf.nest.flatten(factors) if tensor is not None]

    def rebuild(arrays: Sequence[Tensor]) -> Factors:
        left = iter(arrays)
        return tf.nest.pack_sequence_as(factors, [None if each else next(left) for each in absent])

    return arrays, rebuild


def _once(gradient: Callable) -> Callable:
    """`gradient`, which refuses to be differentiated: what it has kept is not traced back to the inputs."""

    @tf.custom_gradient
    def first(*upstream):
        def second(*unused):
            raise NotImplementedError(
                'A SubspaceModel with redraws or basis="kronecker" has no second derivatives; allowed: '
                "redraw_every=None with another basis."
            )

        return gradient(*upstream), second

    return first
