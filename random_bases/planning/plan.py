"""A plan before the run: what a training step of each method takes.

The loss and its gradient are traced, as TensorFlow traces any function, and never run. What their graph keeps
alive is counted (`liveness`); weights, states and coordinates are counted from shapes.
"""

import functools
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf

from random_bases import arguments, keras_api
from random_bases.bases.hadamard import HadamardBasis
from random_bases.bases.kronecker import KroneckerBasis
from random_bases.bases.transforms import OverlappingTransform
from random_bases.keras_api import keras
from random_bases.models import SubspaceModel, tapping
from random_bases.planning.liveness import Live, bytes_of, live_bytes
from random_bases.subspace import Subspace
from random_bases.tensors import densify, size_of

METHODS = (
    "sgd",
    "adamw",
    "lora",
    "rbd",
    "rbd_error_feedback",
    "subspace",
    "kronecker",
    "kronecker_fixed",
    "nes",
)
_FLOAT = 4
_LOOPS = "and what these keep for the backward pass is not in its graph; allowed: models without them."
# Operations with graphs of their own.
_NESTED = ("While", "If", "Case", "PartitionedCall")
# How many vectors of D numbers, and of the 2^k of a transform, XLA has at once for a sketch of a gradient,
# with the gradient, and for P c or P^T g of a `SubspaceModel`. As its buffers say, for Hadamard directions
# that are a product set (few of them), or of two overlapping transforms.
_SKETCH = {True: (4, 0), False: (3, 5)}
_PRODUCT = {True: (3, 0), False: (2, 4)}


class MethodPlan(NamedTuple):
    """What a training step of one method takes, in bytes but for `trained`.

    Attributes:
      method: one of `METHODS`.
      trained: how many numbers train, by layer: weights for "sgd", "adamw", "lora" and "nes", coordinates for
        the others; those whose directions are of all layers together have them under "all layers".
      weights: all variables of the model, trained or not, and the factors of "lora".
      optimizer: the optimizer's state, and what else is kept from step to step: the memory of error feedback.
      gradient: gradients of weights that are there at once: the largest one where each is taken in as soon as
        it is computed, else all.
      directions: coordinates, what is drawn of the basis at once, and P c; those of a sketch.
      activations: what the forward pass keeps for the backward pass.
      peak: all that there is at once where that is most, with the batch: no sum of the others, since
        activations are gone when the last gradients come.
      exchanged: what each of several workers hands to the reduction over them; None if there is one only.
    """

    method: str
    trained: Dict[str, int]
    weights: int
    optimizer: int
    gradient: int
    directions: int
    activations: int
    peak: int
    exchanged: Optional[int]


class Plan(NamedTuple):
    """The plans of several methods; `str` is a table of them.

    Attributes:
      batch: bytes of the batch.
      methods: a `MethodPlan` for each method, by its name.
    """

    batch: int
    methods: Dict[str, MethodPlan]

    def __str__(self) -> str:
        names = ("weights", "optimizer", "gradient", "directions", "activations", "peak", "exchanged")
        rows = [["MB", "trained", *names]]
        for each in self.methods.values():
            cells = [getattr(each, name) for name in names]
            megabytes = ["-" if cell is None else f"{cell / 1e6:,.3g}" for cell in cells]
            rows.append([each.method, f"{sum(each.trained.values()):,}", *megabytes])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            )
            for row in rows
        )


def plan(
    model: keras.Model,
    batch: Sequence[Any],
    dimensions: int,
    rank: int = 4,
    methods: Optional[Sequence[str]] = None,
) -> Plan:
    """What a training step takes: trained numbers, bytes of memory by what they are, and what travels.

    Nothing of it is measured, and no step is run: loss and gradient are traced, and the tensors of the graph
    that are alive at once are counted, elementwise operations being fused as XLA fuses them. `peak` is what
    XLA's buffers come to (arguments, results and temporaries, those that share memory once) in a step that
    `jit_compile=True` compiles, as Keras 3 does by default. Not in it: TensorFlow itself, the compiler, data
    that is loaded ahead, and the metrics that the model is compiled with.

    On CPUs it was within 15% of XLA's in all cases that tests/planning/test_measured.py holds, and it is not
    for max pooling, of which XLA's CPU backend keeps several times the inputs' size; for a small network in
    which XLA draws the factors of "kronecker" after the backward pass, it has more, too. Without XLA,
    elementwise operations have buffers of their own: a step takes up to twice the activations.

    The methods: "sgd" and "adamw", of all trained weights; "lora", Keras's `enable_lora(rank)` of all layers
    that have it, all else frozen, with AdamW; "rbd", `RandomBasesDescent` with SGD inside and Hadamard
    directions; "rbd_error_feedback", the same with `error_feedback=True`; "subspace", a `SubspaceModel` with
    SGD and Hadamard directions; "kronecker" and "kronecker_fixed", with `basis="kronecker"` and
    `redraw_every=1` or None; "nes", `NaturalEvolutionStrategies` in place (SPSA, MeZO), which evaluates one
    offspring after another in the model's own weights. SGD is without momentum, which would add as many
    numbers as train.

    Args:
      model: a built Keras model, compiled with the loss; without recurrent layers or other loops.
      batch: (x, y) or (x, y, sample_weight), as `fit` has them: arrays, tensors or `tf.TensorSpec`s, or
        structures of them.
      dimensions: d, of all methods with coordinates.
      rank: of "lora".
      methods: some of `METHODS`; None: all, without "lora" where Keras has none.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value, or a method cannot train the
        model.

    Example:
    >>> print(rb.plan(model, (x[:32], y[:32]), dimensions=1000))
    >>> rb.plan(model, (x, y), dimensions=1000, methods=["kronecker"]).methods["kronecker"].peak
    """
    step = _Step(model, batch, dimensions, rank)
    names = _checked_methods(methods, step)
    kinds: Dict[str, Callable[[str], MethodPlan]] = {
        "sgd": step.of_weights,
        "adamw": step.of_weights,
        "lora": step.of_factors,
        "rbd": step.of_sketches,
        "rbd_error_feedback": step.of_sketches,
        "subspace": step.in_subspace,
        "kronecker": step.in_factored,
        "kronecker_fixed": step.in_factored,
        "nes": step.of_losses,
    }
    return Plan(step.batch_bytes, {name: kinds[name](name) for name in names})


def _checked_methods(methods: Optional[Sequence[str]], step: "_Step") -> List[str]:
    if methods is None:
        return [name for name in METHODS if name != "lora" or step.adaptable]
    arguments.check(isinstance(methods, (list, tuple)), "methods", methods, "a list of names", TypeError)
    names = [arguments.one_of(f"methods[{i}]", name, METHODS) for i, name in enumerate(methods)]
    if "lora" in names and not step.adaptable:
        raise ValueError(f'methods={names!r} has "lora", and no layer of the model has `enable_lora`.')
    return names


class _Step:
    """A training step of a model, by each method: one function a kind of them."""

    def __init__(self, model: keras.Model, batch: Sequence[Any], dimensions: int, rank: int):
        keras_api.check_built(model, trainable=True)
        if not keras_api.is_compiled(model):
            raise ValueError(f"model={model.name!r} is not compiled: compile it with its loss first.")
        if any(isinstance(layer, keras.layers.RNN) for layer in keras_api.layers_of(model)):
            raise ValueError(f"model={model.name!r} has recurrent layers, {_LOOPS}")
        if not isinstance(batch, (list, tuple)):
            raise TypeError(f"batch is a {type(batch).__name__}; allowed: (x, y) or (x, y, sample_weight).")
        if len(batch) not in (2, 3):
            raise ValueError(f"batch has {len(batch)} parts; allowed: (x, y) or (x, y, sample_weight).")
        self._model = model
        self._variables = keras_api.trained_of(model.trainable_variables)
        self._size = sum(size_of(variable.shape) for variable in self._variables)
        self._dimensions = arguments.integer("dimensions", dimensions, 1, self._size)
        self._rank = arguments.integer("rank", rank, 1)
        self._batch = tf.nest.map_structure(_spec, tuple(batch))
        self.batch_bytes = sum(bytes_of(spec) for spec in tf.nest.flatten(self._batch))
        self._weights = sum(bytes_of(variable) for variable in keras_api.variables_of(model))
        self._linear = tapping.of(model, self._variables)
        self._each = [bytes_of(variable) for variable in self._variables]

    @property
    def adaptable(self) -> List[int]:
        """The positions of the kernels whose layers have Keras's LoRA."""
        layers = [self._linear.get(id(variable)) for variable in self._variables]
        return [i for i, each in enumerate(layers) if each is not None and hasattr(each.layer, "enable_lora")]

    @property
    def _by_layer(self) -> Dict[str, int]:
        return _by_layer(self._variables, [size_of(variable.shape) for variable in self._variables])

    # What each kind of method takes.

    def of_weights(self, name: str) -> MethodPlan:
        """All weights, each of which takes its gradient in as soon as it comes."""
        live, _ = self._traced_weights
        state = 0
        if name == "adamw":
            state = 2 * sum(self._each)
            live = live._replace(most=live.most + max(self._each))  # a moment's new value beside the old one
        return self._plan(name, self._by_layer, state, max(self._each), 0, live, sum(self._each))

    def of_factors(self, name: str) -> MethodPlan:
        """Keras's LoRA: kernels W + A B, which exist, as do their gradients."""
        kernels = [self._variables[i] for i in self.adaptable]
        shapes = [_factor_shapes(variable.shape, self._rank) for variable in kernels]
        sizes = [size_of(a) + size_of(b) for a, b in shapes]
        specs = [tf.TensorSpec(shape) for pair in shapes for shape in pair]

        def loss_of(batch, factors):
            pairs = zip(kernels, factors[::2], factors[1::2])
            values = [
                keras_api.value_of(kernel) + tf.cast(tf.tensordot(a, b, 1), kernel.dtype)
                for kernel, a, b in pairs
            ]
            with keras_api.Substitution(kernels, values) as substitution:
                outputs, losses = substitution.call(self._model, batch[0], training=True)
            return _total(self._model, batch, outputs, losses)

        live = self._trace(loss_of, specs)[0]
        factors = _FLOAT * sum(sizes)
        largest = max(bytes_of(kernel) for kernel in kernels)
        planned = self._plan(name, _by_layer(kernels, sizes), 2 * factors, largest, 0, live, factors)
        return planned._replace(weights=planned.weights + factors, peak=planned.peak + factors)

    def of_sketches(self, name: str) -> MethodPlan:
        """All gradients, then their sketch, which the inner optimizer gets."""
        remembers = name == "rbd_error_feedback"
        _, live = self._traced_weights
        gradients = _FLOAT * self._size
        sketch = self._vectors(_SKETCH) + (gradients if remembers else 0)
        directions = sketch - gradients + _FLOAT * self._dimensions
        kept = gradients if remembers else 0
        live = live._replace(most=max(live.most, sketch))
        trained = {"all layers": self._dimensions}
        return self._plan(name, trained, kept, gradients, directions, live, _FLOAT * self._dimensions)

    def in_subspace(self, name: str) -> MethodPlan:
        """Weights theta0 + P c beside theta0, and all gradients, which are projected."""
        _, live = self._traced_weights
        gradients, coordinates = _FLOAT * self._size, _FLOAT * self._dimensions
        theta = sum(self._each)
        product = self._vectors(_PRODUCT)
        live = live._replace(most=theta + coordinates + max(live.most, product))
        directions = theta + coordinates + product - gradients
        return self._plan(name, {"all layers": self._dimensions}, 0, gradients, directions, live, coordinates)

    def in_factored(self, name: str) -> MethodPlan:
        """Kernels whose layers compute the coordinates' gradient."""
        redraw_every = 1 if name == "kronecker" else None
        sub = SubspaceModel(self._model, self._dimensions, "kronecker", seed=0, redraw_every=redraw_every)

        def loss_of(batch, values):
            del values
            return _total(self._model, batch, sub(batch[0], training=True), sub.losses)

        _ = self._traced_weights  # which looks into the model: here are programs of ours, too
        live = self._trace(loss_of, [], [sub.coordinates], looks=False)[0]
        shapes = [tuple(variable.shape) for variable in self._variables]
        matrices = tapping.matrices(self._linear, self._variables)
        subspace = Subspace(shapes, self._dimensions, "kronecker", matrices=matrices)
        drawn = sum(_factor_numbers(basis) for basis in subspace.compartment_bases)
        coordinates = _FLOAT * self._dimensions
        # XLA's programs have P c of all kernels before the first is taken in.
        products = _FLOAT * self._size
        directions = coordinates + _FLOAT * drawn + products
        live = live._replace(most=coordinates + max(live.most, _FLOAT * drawn + products))
        of = {i: subspace.compartment_dimensions[k] for i, k in subspace.compartment_of.items()}
        trained = _by_layer([self._variables[i] for i in of], list(of.values()))
        plain = [size for v, size in zip(self._variables, self._each) if id(v) not in self._linear]
        gradient = coordinates + max(plain, default=0)
        return self._plan(name, trained, 0, gradient, directions, live, coordinates)

    def of_losses(self, name: str) -> MethodPlan:
        """Forward passes, and one weight's perturbation at a time."""

        def loss_of(batch, values):
            del values
            return _total(self._model, batch, self._model(batch[0], training=False), self._model.losses)

        live = self._trace(loss_of, [], differentiated=False)[0]
        largest = max(self._each)
        live = Live(max(live.most, largest), 0)
        return self._plan(name, self._by_layer, 0, 0, largest, live, None)

    def _plan(
        self,
        name: str,
        trained: Dict[str, int],
        optimizer: int,
        gradient: int,
        directions: int,
        live: Live,
        exchanged: Optional[int],
    ) -> MethodPlan:
        peak = self._weights + optimizer + self.batch_bytes + live.most
        return MethodPlan(
            name, trained, self._weights, optimizer, gradient, directions, live.kept, peak, exchanged
        )

    def _vectors(self, counts: Dict[bool, Tuple[int, int]]) -> int:
        """Bytes of so many vectors of D numbers, of as many as the longest transform has, and of factors."""
        factors = HadamardBasis(self._size, self._dimensions).factor_numbers
        whole, transformed = counts[factors > 0]
        length = OverlappingTransform(self._size).length
        return _FLOAT * (whole * self._size + transformed * length + factors)

    # Tracing.

    @functools.cached_property
    def _traced_weights(self) -> Tuple[Live, Live]:
        """As `_trace`, of all weights."""

        def loss_of(batch, values):
            del values
            return _total(self._model, batch, self._model(batch[0], training=True), self._model.losses)

        return self._trace(loss_of, [], self._variables)

    def _trace(
        self,
        loss_of: Callable[[Any, List[tf.Tensor]], tf.Tensor],
        specs: Sequence[tf.TensorSpec],
        variables: Sequence = (),
        differentiated: bool = True,
        looks: bool = True,
    ) -> Tuple[Live, Live]:
        """What is alive in loss_of(batch, values) and its gradient for values of `specs` and for variables.

        Where each gradient is taken in as it comes, and where all wait for the last. Unless `looks` is False,
        what has a graph of its own is refused.
        """
        found: List[Any] = []

        def step(batch, values):
            watched = [*values, *(keras_api.tf_variable_of(variable) for variable in variables)]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(watched)
                loss = loss_of(batch, values)
            gradients = tape.gradient(loss, watched) if differentiated else []
            dense = [densify(g, w.shape) for g, w in zip(gradients, watched) if g is not None]
            found[:] = [loss, dense]
            return loss

        graph = tf.function(step, autograph=False).get_concrete_function(self._batch, list(specs)).graph
        loss, gradients = found
        for operation in graph.get_operations() if looks else ():
            # What only checks, as an assertion does, gives no such numbers.
            gives = any(tensor.dtype.is_floating for tensor in operation.outputs)
            if gives and any(part in operation.type for part in _NESTED):
                raise ValueError(
                    f"model={self._model.name!r} has loops, branches or functions of TensorFlow "
                    f"({operation.type}), {_LOOPS}"
                )
        return live_bytes(graph, loss), live_bytes(graph, loss, gradients)


def _total(model: keras.Model, batch: Any, outputs: Any, losses: Sequence[tf.Tensor]) -> tf.Tensor:
    added = [tf.cast(tf.reduce_sum(loss), tf.float32) for loss in losses]
    return tf.add_n([keras_api.compiled_loss(model, batch, outputs), *added])


def _spec(leaf: Any) -> tf.TensorSpec:
    spec = leaf if isinstance(leaf, tf.TensorSpec) else tf.TensorSpec(leaf.shape, leaf.dtype)
    if not spec.shape.is_fully_defined():
        raise ValueError(f"batch has a part of shape {spec.shape}; allowed: shapes that are known.")
    return spec


def _by_layer(variables: Sequence, counts: Sequence[int]) -> Dict[str, int]:
    """{path of a layer: the sum of its variables' counts}."""
    found: Dict[str, int] = {}
    for variable, count in zip(variables, counts):
        path = keras_api.path_of(variable)
        layer = path.rpartition("/")[0] or path
        found[layer] = found.get(layer, 0) + count
    return found


def _factor_shapes(shape: Sequence[int], rank: int) -> Tuple[List[int], List[int]]:
    """Of A and B, as Keras has them: A has all axes of the kernel but the last one."""
    return [*shape[:-1], rank], [rank, shape[-1]]


def _factor_numbers(basis: Any) -> int:
    """How many numbers A and B have that are drawn."""
    assert isinstance(basis, KroneckerBasis)
    sides = zip(basis.matrix[1:], basis.ranks)
    return sum(math.prod(side) for side in sides if side[0] > side[1])
