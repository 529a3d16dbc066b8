"""The directions of a step: what their coordinates are, and what the weights move by.

`SeededDirections` are drawn from a seed, `PartlyRedrawn` from a seed and what was kept of earlier draws;
`GradientHistory` (history.py) stores its own. Each has `step`, and owns the state that it keeps from step to
step; those that a seed tells can also `expand` recorded coordinates. `ErrorFeedback` (error_feedback.py)
stands around `SeededDirections`.
"""

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases.optimizers.exchange import Exchange
from random_bases.optimizers.magnitude import count_of, keep_largest, redraw_weakest


class StateSpec(NamedTuple):
    """A variable of zeros that is kept from step to step; `own`: each replica has its own value."""

    name: str
    shape: Tuple[int, ...]
    dtype: str = "float32"
    own: bool = False


def own_variable(spec: StateSpec, replica_count: int) -> tf.Variable:
    """The variable of a state that each replica has its own of, which no Keras has tracked."""
    several = {
        "synchronization": tf.VariableSynchronization.ON_READ,
        "aggregation": tf.VariableAggregation.MEAN,
    }
    return tf.Variable(
        tf.zeros(spec.shape, spec.dtype),
        name=spec.name,
        trainable=False,
        **(several if replica_count > 1 else {}),
    )


class Step(NamedTuple):
    """What a step computes.

    Attributes:
      coordinates: of all replicas, float32 `Directions.shape`.
      update: what the inner optimizer gets, float32 tensors of the variables' shapes.
      projected: the coordinates before the choice among all of them; tells which are weakest.
      own: this replica's coordinates before any choice, float32 [m]; tells what has left its memory.
    """

    coordinates: Tensor
    update: List[Tensor]
    projected: Tensor
    own: Tensor


def filled(tensors: Sequence[Optional[Tensor]], shapes: Sequence[Sequence[int]]) -> List[Tensor]:
    """The tensors, with zeros in place of None."""
    return [tf.zeros(shape) if tensor is None else tensor for tensor, shape in zip(tensors, shapes)]


class Redraws:
    """When a basis is drawn anew.

    Args:
      every: the number of weight updates that one is kept for; None: for ever.
    """

    def __init__(self, every: Optional[int]):
        self.every = every

    def draw(self, updates: Tensor) -> Tensor:
        """The index of the redraw, int32, after so many weight updates."""
        if self.every is None:
            return tf.constant(0)
        return tf.cast(updates, tf.int32) // self.every

    def where_due(self, updates: Tensor, new: Callable[[], Tensor], old: Tensor) -> Tensor:
        """`new()` if the basis is redrawn after this update, else `old`."""
        if self.every == 1:
            return new()
        due = tf.equal((tf.cast(updates, tf.int32) + 1) % self.every, 0)
        return tf.cond(due, new, lambda: old)


class SeededDirections:
    """d random directions for each draw, which a seed regenerates.

    Args:
      exchange: the directions of each replica, and what travels.
      seed: in [0, 2**64).
      redraws: when they are drawn anew.
      keep: the fraction of the coordinates, those of largest magnitude, that move the weights.
      keep_own: whether each replica chooses among its own coordinates, before they travel.
    """

    def __init__(
        self, exchange: Exchange, seed: int, redraws: Redraws, keep: float = 1.0, keep_own: bool = False
    ):
        self.exchange = exchange
        self.seed = seed
        self.redraws = redraws
        # How many, of all coordinates or of each replica's own; None: no choice is made.
        self._kept = count_of(keep, exchange.dimensions) if keep < 1 and not keep_own else None
        self._own_kept = count_of(keep, exchange.shape[1]) if keep < 1 and keep_own else None
        self.state: List[tf.Variable] = []

    @property
    def replica_count(self) -> int:
        return self.exchange.replica_count

    @property
    def shapes(self) -> List[Tuple[int, ...]]:
        return self.exchange.subspace.shapes

    @property
    def shape(self) -> Tuple[int, int]:
        return self.exchange.shape

    @property
    def state_specs(self) -> List[StateSpec]:
        return []

    def draws(self, updates: Tensor) -> Tensor:
        """What the directions after so many updates are drawn with: int32 scalar, or one for each, [d]."""
        return self.redraws.draw(updates)

    def step(
        self, tensors: Sequence[Optional[Tensor]], updates: Tensor, replicas, recorded: bool = False
    ) -> Step:
        """One step along gradients.

        Args:
          tensors: this replica's g_k / K, tensors of the variables' shapes; None counts as zero.
          updates: integer scalar, how many weight updates were made before.
          replicas: of `random_bases.optimizers.collectives`.
          recorded: whether the update must be that which `expand` makes of the coordinates, bit for bit.
        """
        tensors, draws = filled(tensors, self.shapes), self.draws(updates)
        if replicas.count == 1 and not recorded and self._kept is self._own_kept is None:
            # One pass over the directions can serve both.
            c, update = self.exchange.subspace.sketch(tensors, self.seed, draws)
            return Step(c[tf.newaxis], update, c[tf.newaxis], c)
        own = self.exchange.project(tensors, self.seed, draws, replicas.index)
        if self._own_kept is not None:
            projected = coordinates = self.exchange.exchanged_largest(own, self._own_kept, replicas)
        else:
            projected = coordinates = self.exchange.exchanged(own, replicas)
            if self._kept is not None:
                coordinates = keep_largest(projected, self._kept)
        update = self.exchange.update(coordinates, self.seed, draws, replicas)
        return Step(coordinates, update, projected, own)

    def own_part(self, step: Step, updates: Tensor, replicas) -> List[Tensor]:
        """What of a step's update came from this replica's tensors: they add up to it over replicas."""
        if replicas.count == 1:
            return step.update
        own = step.own if self._own_kept is None else keep_largest(step.own, self._own_kept)
        return self.exchange.expand_own(own, self.seed, self.draws(updates), replicas.index)

    def expand(self, coordinates: Tensor, updates: Tensor) -> List[Tensor]:
        """The update of recorded coordinates, those of the step after so many updates."""
        return self.exchange.expand(coordinates, self.seed, self.draws(updates))


class PartlyRedrawn(SeededDirections):
    """Only the directions with the smallest coordinates are drawn anew; the others stay.

    Args:
      redraw: the fraction that is drawn anew.
    """

    def __init__(self, exchange: Exchange, seed: int, redraws: Redraws, redraw: float, keep: float = 1.0):
        super().__init__(exchange, seed, redraws, keep)
        self._redrawn = count_of(redraw, exchange.shape[1])

    @property
    def state_specs(self) -> List[StateSpec]:
        return [StateSpec("draws", (self.shape[1],), "int32")]

    def draws(self, updates: Tensor) -> Tensor:
        return tf.convert_to_tensor(self.state[0])

    def step(
        self, tensors: Sequence[Optional[Tensor]], updates: Tensor, replicas, recorded: bool = False
    ) -> Step:
        step = super().step(tensors, updates, replicas, recorded)
        draws, after = self.draws(updates), self.redraws.draw(updates) + 1
        new = self.redraws.where_due(
            updates, lambda: redraw_weakest(draws, step.projected[0], self._redrawn, after), draws
        )
        self.state[0].assign(new)
        return step
