"""The losses of a population's offspring: of the model at theta + sigma phi_j.

Two ways, chosen by memory: many offspring at a time, each with weights of its own or, with low-rank
perturbations, with thin factors of its own, or one after another in the model's own weights.
"""

import functools
import math
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import keras_api
from random_bases.bases.basis import compiled
from random_bases.evolution.low_rank import LowRankPerturbations
from random_bases.evolution.perturbations import Perturbations
from random_bases.evolution.workers import own_directions
from random_bases.keras_api import keras
from random_bases.models import linear_layers, tapping
from random_bases.models.linear_layers import LinearLayer
from random_bases.tensors import size_of

Masks = Dict[int, tf.Tensor]  # of the outputs that have one: `keras_api.masks_of`
Placed = Tuple[tf.Variable, int]  # with where its entries begin: `Perturbations.starts`

_MOST_IN_ONE = 2**18  # entries that are drawn together: a tile of samples, as bases draw them, of 1 MB


class Population(NamedTuple):
    """What both ways need to know.

    Attributes:
      model: the model.
      perturbations: of its trainable variables.
      sigma: the perturbations' size.
      antithetic: whether each phi_j has two offspring, at +sigma and -sigma.
      shared: whether all offspring see one batch.
      training: the `training` argument of the model's call.
      jit_compile: whether the model's call is compiled by XLA.
    """

    model: keras.Model
    perturbations: Union[Perturbations, LowRankPerturbations]
    sigma: float
    antithetic: bool
    shared: bool
    training: bool
    jit_compile: bool

    @property
    def signs(self) -> List[float]:
        """Of sigma, for the offspring of one direction."""
        return [1.0, -1.0] if self.antithetic else [1.0]

    @property
    def variables(self) -> list:
        return self.model.trainable_variables


class OwnWeights:
    """Offspring that have weights of their own.

    Args:
      population: the population.

    Attributes:
      bytes: that one takes.
    """

    def __init__(self, population: Population):
        self._population = population
        self.bytes = 4 * population.perturbations.size

    def trace(self, directions: Tensor, update: Tensor) -> Any:
        """What the offspring of these directions have: tensors [rows, ...], a row for each sign."""
        population = self._population
        perturbations = population.perturbations.trace(directions, update)
        return [
            _rows_of_signs(keras_api.value_of(variable), population.sigma * phi, population.signs)
            for variable, phi in zip(population.variables, perturbations)
        ]

    def caller(self) -> Callable[[Any, Any], Tuple[Any, List[Tensor]]]:
        """The function (what one offspring has, inputs) -> (outputs, losses that the model adds)."""

        def call(weights, inputs):
            population = self._population
            with keras_api.Substitution(population.variables, weights, differentiated=False) as substitution:
                return substitution.call(population.model, inputs, training=population.training)

        return call


class OwnFactors:
    """Offspring that share the kernels of linear layers, and have factors A_j and B_j of their own to each.

    What is no such kernel they have weights of their own of. A kernel that is read elsewhere than in its
    layer, as by a regulariser, reads there as what it is with A_j B_j^T.

    Args:
      population: the population.
      perturbations: its perturbations.
      linear: the linear layers of their kernels: id(variable) -> layer.
    """

    def __init__(
        self, population: Population, perturbations: LowRankPerturbations, linear: Dict[int, LinearLayer]
    ):
        self._population = population
        self._perturbations = perturbations
        variables = population.variables
        self._kernels = [variables[i] for i in self._perturbations.kernels]
        self._others = [variables[i] for i in self._perturbations.others]
        self._linear = [linear[id(kernel)] for kernel in self._kernels]
        whole = tapping.read_whole(population.model, self._linear)
        self.bytes = 4 * (self._perturbations.drawn_size + sum(size_of(each.kernel.shape) for each in whole))

    def trace(self, directions: Tensor, update: Tensor) -> Any:
        """As `OwnWeights.trace`: factors, whose product is sigma A_j B_j^T / sqrt(r), and other weights."""
        population, perturbations = self._population, self._perturbations
        drawn = perturbations.trace_drawn(directions, update)
        scale = population.sigma / math.sqrt(perturbations.rank)
        factors = [
            (_signed(scale * a, population.signs), tf.repeat(b, len(population.signs), axis=0))
            for a, b in drawn.kernels
        ]
        others = [
            _rows_of_signs(keras_api.value_of(variable), population.sigma * phi, population.signs)
            for variable, phi in zip(self._others, drawn.others)
        ]
        return factors, others

    def caller(self) -> Callable[[Any, Any], Tuple[Any, List[Tensor]]]:
        """As `OwnWeights.caller`."""
        # Read before offspring are mapped over: one product with them serves all.
        kernels = [keras_api.value_of(kernel) for kernel in self._kernels]

        def call(own, inputs):
            factors, others = own
            plain = [tf.identity(kernel) for kernel in kernels]  # of the graph in which they are read
            whole = [
                value + tf.cast(tf.reshape(tf.matmul(a, b, transpose_b=True), value.shape), value.dtype)
                for value, (a, b) in zip(plain, factors)
            ]
            variables, values = [*self._kernels, *self._others], [*whole, *others]
            with keras_api.Substitution(variables, values, differentiated=False) as substitution:
                tapped = [
                    tapping.TappedKernel(linear, value, _added(linear, a, b))
                    for linear, value, (a, b) in zip(self._linear, plain, factors)
                ]
                with tapping.rerouted(tapping.calls(tapped, substitution)):
                    return substitution.call(
                        self._population.model, inputs, training=self._population.training
                    )

        return call


def _added(linear: LinearLayer, a: Tensor, b: Tensor) -> linear_layers.Tap:
    """The tap that adds x A B^T."""
    return lambda x, y: y + tf.cast(linear.product(x, a, b), y.dtype)


class Chunked:
    """Offspring evaluated `rows` at a time: theta is not touched.

    Args:
      population: the population.
      own: what each offspring has of its own.
      rows: how many at a time; one direction's at least.
      group: how many batches come in one piece, which divides those of an update; None: each by itself.
    """

    def __init__(
        self, population: Population, own: Union[OwnWeights, OwnFactors], rows: int, group: Optional[int]
    ):
        self._population = population
        self._own = own
        self._rows = rows
        self._group = group
        # A program of its own: its results are stored, and not generated again wherever they are used.
        self._draw = compiled(own.trace)
        compile_ = (
            compiled if population.jit_compile else lambda function: tf.function(function, autograph=False)
        )
        self._evaluate = compile_(self._trace)

    def losses(self, iterator: Iterator, update: Tensor, replicas) -> Tensor:
        """The loss of each of this replica's offspring, which also go into the model's metrics.

        Args:
          iterator: gives (x,), (x, y) or (x, y, sample_weight) for each of its directions, or once if all
            share it.
          update: int32 scalar, how many updates were made before.
          replicas: of `random_bases.optimizers.collectives`.

        Returns:
          float32 [directions / replicas, signs].
        """
        count = self._population.perturbations.count // replicas.count
        signs = len(self._population.signs)
        chunk = min(self._rows // signs, count)
        chunk -= chunk % (self._group or 1)
        chunks, left = divmod(count, chunk)
        shared = next(iterator) if self._population.shared else None

        def some(first, count):
            batch = shared if shared is not None else _stacked(iterator, count, self._group)
            own = self._draw(own_directions(first, count, replicas), update)
            losses, outputs, masks = self._evaluate(own, batch)
            all_ = _of_all(batch, outputs, masks, count, signs, shared)
            keras_api.update_metrics(self._population.model, *all_)
            return tf.reshape(losses, [count, signs])

        def write(i, array):
            return i + 1, array.write(i, some(i * chunk, chunk))

        array = tf.TensorArray(tf.float32, chunks, element_shape=[chunk, signs])
        _, array = tf.while_loop(
            lambda i, _: i < chunks, write, (tf.constant(0), array), parallel_iterations=1
        )
        losses = array.concat()
        if left:
            losses = tf.concat([losses, some(tf.constant(chunks * chunk), left)], axis=0)
        return tf.ensure_shape(losses, [count, signs])

    def _trace(self, own: Any, batch: Any) -> Tuple[Tensor, Any, Masks]:
        """Losses [rows], outputs and their masks [rows, ...] of offspring by what they have, [rows, ...]."""
        population, rows = self._population, tf.nest.flatten(own)[0].shape[0]
        if population.shared:
            of_row = lambda row: batch  # noqa: E731
        else:
            batch = tf.nest.map_structure(lambda t: tf.repeat(t, len(population.signs), axis=0), batch)
            of_row = lambda row: tf.nest.map_structure(lambda t: tf.gather(t, row), batch)  # noqa: E731

        call = self._own.caller()

        def forward(row_and_own):
            row, own = row_and_own
            outputs, added = call(own, of_row(row)[0])
            return outputs, keras_api.masks_of(outputs), _sum(added)

        outputs, masks, added = _map(forward, (tf.range(rows), own))

        def loss(row):
            of_this = tf.nest.map_structure(lambda tensor: tf.gather(tensor, row), (outputs, masks))
            masked = keras_api.with_masks(*of_this)
            return keras_api.compiled_loss(population.model, of_row(row), masked) + tf.gather(added, row)

        losses = tf.map_fn(loss, tf.range(rows), fn_output_signature=tf.float32, parallel_iterations=1)
        return losses, outputs, masks


class InPlace:
    """Offspring evaluated one after another in the model's own weights, which are then restored.

    Up to rounding: each is moved by sigma phi_j, generated where it is added, and back. Bases whose
    entries are independent need little memory for that; others that of one direction. On one replica only:
    those of several, with offspring of their own, would round each in its own way and part.

    Args:
      population: the population.
    """

    def __init__(self, population: Population):
        self._population = population
        self._programs: Dict[Any, Callable] = {}
        compile_ = (
            compiled if population.jit_compile else lambda function: tf.function(function, autograph=False)
        )
        self._evaluate = compile_(self._trace)

    def losses(self, iterator: Iterator, update: Tensor, replicas) -> Tensor:
        """As `Chunked.losses`."""
        assert replicas.count == 1
        count, signs = self._population.perturbations.count, len(self._population.signs)
        shared = next(iterator) if self._population.shared else None

        def write(i, array):
            batch = next(iterator) if shared is None else shared

            def loss():
                value, outputs, masks = self._evaluate(batch)
                keras_api.update_metrics(self._population.model, batch, keras_api.with_masks(outputs, masks))
                return value

            return i + 1, array.write(i, tf.stack(self.around(i, update, loss)))

        array = tf.TensorArray(tf.float32, count, element_shape=[signs])
        return tf.while_loop(lambda i, _: i < count, write, (tf.constant(0), array), parallel_iterations=1)[
            1
        ].stack()

    def around(self, index: Tensor, update: Tensor, loss: Callable) -> list:
        """loss() at each sign's offspring of a direction."""
        values, at = [], 0.0
        try:
            for sign in self._population.signs:
                self.move(tf.constant((sign - at) * self._population.sigma), index, update)
                at = sign
                values.append(loss())
        finally:
            self.move(tf.constant(-at * self._population.sigma), index, update)
        return values

    def disturb(self, update: Tensor) -> None:
        """What `losses` does to the weights, which are back but for rounding; without its losses."""

        def around(index):
            self.around(index, update, lambda: None)
            return (index + 1,)

        count = self._population.perturbations.count
        tf.while_loop(lambda index: index < count, around, (tf.constant(0),), parallel_iterations=1)

    def move(self, coefficient: Tensor, index: Tensor, update: Tensor) -> None:
        """Theta += coefficient phi."""
        perturbations = self._population.perturbations
        if not (isinstance(perturbations, Perturbations) and perturbations.entrywise):
            self._program("all", self._move_all)(coefficient, index, update)
            return
        small, large = self._by_size
        if small:
            steps = self._program("small", self._steps)(coefficient, index, update, _elements_of(small))
            parts = tf.split(steps, [variable.shape.num_elements() for variable, _ in small])
            for (variable, _), step in zip(small, parts):
                _add(variable, step)
        # A program for each shape: one of all variables takes more memory.
        for variable, start in large:
            program = self._program((tuple(variable.shape), variable.dtype), self._move)
            program(variable, tf.constant(start), coefficient, index, update)

    @functools.cached_property
    def _by_size(self) -> Tuple[List[Placed], List[Placed]]:
        """The smallest variables, of `_MOST_IN_ONE` entries together, by their places, and all others.

        Each program is some megabytes of the machine's code, however small what it moves: one makes the
        steps of all that are small.
        """
        perturbations = self._population.perturbations
        assert isinstance(perturbations, Perturbations)
        raw = [keras_api.tf_variable_of(variable) for variable in self._population.variables]
        placed = sorted(zip(raw, perturbations.starts), key=lambda each: each[0].shape.num_elements())
        sizes = np.cumsum([variable.shape.num_elements() for variable, _ in placed])
        count = int(np.searchsorted(sizes, _MOST_IN_ONE, side="right"))
        return sorted(placed[:count], key=lambda each: each[1]), placed[count:]

    def _steps(self, coefficient: Tensor, index: Tensor, update: Tensor, elements: Tensor) -> Tensor:
        perturbations = self._population.perturbations
        assert isinstance(perturbations, Perturbations)
        return coefficient * perturbations.trace_entries(index, update, elements)

    def _program(self, key: Any, function: Callable) -> Callable:
        return self._programs.setdefault(key, compiled(function))

    def _move(
        self, variable: tf.Variable, start: Tensor, coefficient: Tensor, index: Tensor, update: Tensor
    ) -> None:
        elements = start + tf.range(variable.shape.num_elements())
        _add(variable, self._steps(coefficient, index, update, elements))

    def _move_all(self, coefficient: Tensor, index: Tensor, update: Tensor) -> None:
        perturbations = self._population.perturbations.trace(index[tf.newaxis], update)
        for variable, phi in zip(self._population.variables, perturbations):
            _add(variable, coefficient * phi)

    def _trace(self, batch: Any) -> Tuple[Tensor, Any, Masks]:
        model = self._population.model
        outputs = model(batch[0], training=self._population.training)
        loss = keras_api.compiled_loss(model, batch, outputs) + _sum(model.losses)
        return loss, outputs, keras_api.masks_of(outputs)


def _elements_of(placed: List[Placed]) -> Tensor:
    """The numbers of all entries of variables in the order of their places, int32."""
    runs: List[List[int]] = []  # [from, to] of neighbours
    for variable, start in placed:
        if not runs or start != runs[-1][1]:
            runs.append([start, start])
        runs[-1][1] += variable.shape.num_elements()
    return tf.concat([tf.range(*run) for run in runs], axis=0)


def _add(variable: Any, step: Tensor) -> None:
    """Variable += step, of as many entries."""
    variable.assign_add(tf.cast(tf.reshape(step, variable.shape), variable.dtype))


def _map(function: Callable, rows: Any) -> Any:
    """function(row) for all rows at once, or one after another if it has loops, branches or state."""
    first = tf.nest.map_structure(lambda tensor: tensor[0], rows)
    trace = tf.function(function, autograph=False).get_concrete_function(
        tf.nest.map_structure(tf.TensorSpec.from_tensor, first)
    )
    graph = trace.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    if not any(part in node.op for node in nodes for part in ("While", "If", "Case", "Assign")):
        return tf.vectorized_map(function, rows)
    signature = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), trace.structured_outputs)
    return tf.map_fn(function, rows, fn_output_signature=signature, parallel_iterations=1)


def _rows_of_signs(value: Tensor, step: Tensor, signs: List[float]) -> Tensor:
    """Value + sign * step[j] for each j and sign: [len(step) * len(signs), ...]."""
    return tf.cast(tf.cast(value, tf.float32) + _signed(step, signs), value.dtype)


def _signed(step: Tensor, signs: List[float]) -> Tensor:
    """Sign * step[j] for each j and sign: [len(step) * len(signs), ...]."""
    return tf.reshape(tf.stack([sign * step for sign in signs], axis=1), [-1, *step.shape[1:]])


def _stacked(iterator: tf.data.Iterator, count: int, group: Optional[int]) -> Any:
    """The next `count` batches as tensors [count, ...]; they come in pieces of `group`, unless it is None."""
    for spec in tf.nest.flatten(iterator.element_spec):
        if not spec.shape.is_fully_defined():
            raise ValueError(
                f"x has batches of shape {spec.shape}, which is not static: they cannot be evaluated "
                "together. Use dataset.batch(..., drop_remainder=True), or memory_limit=0."
            )
    if count == group:
        return next(iterator)
    pieces = tf.map_fn(
        lambda _: next(iterator),
        tf.range(count // (group or 1)),
        fn_output_signature=iterator.element_spec,
        parallel_iterations=1,
    )
    if group is None:
        return pieces
    return tf.nest.map_structure(lambda t: tf.reshape(t, [count, *t.shape[2:]]), pieces)


def _of_all(batch: Any, outputs: Any, masks: Masks, count: int, signs: int, shared: Any) -> Tuple[Any, Any]:
    """Batch and masked outputs of all rows as one large batch."""
    rows = count * signs

    def of_rows(tensor):
        if shared is not None:
            tensor = tf.broadcast_to(tensor, tf.concat([[rows], tf.shape(tensor)], axis=0))
        else:
            tensor = tf.repeat(tensor, signs, axis=0)
        return _merged(tensor)

    masked = keras_api.with_masks(*tf.nest.map_structure(_merged, (outputs, masks)))
    return (None, *tf.nest.map_structure(of_rows, tuple(batch[1:]))), masked


def _merged(tensor: Tensor) -> Tensor:
    """[rows, batch, ...] to [rows * batch, ...]."""
    shape = tf.shape(tensor)
    merged = tf.reshape(tensor, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))
    return tf.ensure_shape(merged, [None, *tensor.shape[2:]])


def _sum(losses: List[Tensor]) -> Tensor:
    return tf.add_n([tf.cast(tf.reduce_sum(loss), tf.float32) for loss in losses]) if losses else tf.zeros([])
