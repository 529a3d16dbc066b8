"""The rule of random bases descent: what the inner optimizer gets in place of the gradient.

Gressmann et al. 2020, equations 3 to 5: theta <- theta - lr P P^T g with P redrawn for each update
(RBD), or drawn once (FPD; Li et al. 2018). Free of Keras: the adapters beside this file connect it to
the three Keras optimizer APIs.
"""

import random
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import tensorflow as tf

from random_bases import bases
from random_bases.arguments import is_int, is_number, plain
from random_bases.bases.basis import Basis
from random_bases.compartments import Allocation, Compartments, allocate, split
from random_bases.optimizers import history
from random_bases.optimizers.exchange import EXCHANGES, REPLICAS, Alone, Exchange
from random_bases.optimizers.selection import keep_largest, number_of, redraw_weakest
from random_bases.sampling.seeds import as_seed
from random_bases.subspace import Subspace

DOCUMENTATION = """Descent in random bases, around any Keras optimizer.

    The inner optimizer gets P P^T g in place of the gradient g, where P holds `dimensions` random
    directions of the weight space that are never stored but drawn again from (`seed`, the number of
    the redraw) whenever needed. With `redraw_every=1` this is random bases descent (RBD; Gressmann et
    al. 2020, arXiv:2011.04720), with `redraw_every=None` descent in a fixed random subspace (FPD; Li
    et al. 2018, arXiv:1804.08838).

    Directions have unit length in expectation, E[P P^T] = (d / n) I for a compartment of n parameters
    and d directions: plain RBD with learning rate lr moves like SGD with lr * d / n.

    With `redraw_every=None` the weights stay in the subspace theta0 + P c only if the inner optimizer
    is SGD, with or without momentum, and without weight decay; adaptive optimizers such as Adam
    rescale each weight, and leave it.

    `learning_rate` is the inner optimizer's, so schedules and callbacks work, and setting it on either
    sets both. Clipping, weight decay, moving averages and gradient accumulation are arguments of the
    inner optimizer. Gradients are accumulated before they are projected, and the basis is redrawn once
    a weight update. For mixed precision put `LossScaleOptimizer` outside (`compile` does).

    Args:
      inner_optimizer: a Keras optimizer: an instance, a name or a configuration.
      dimensions: d, the number of directions over all compartments.
      basis: a name in `random_bases.bases.names()`, or a `Basis` with size D (the number of trained
        parameters) and d directions; or "history": the directions are the last d gradients, each divided
        by its length, and the first step, which has none before it, moves nothing. Those are stored.
      compartments: "network", "layer", "variable", an int (that many equal parts) or a list of sizes.
      allocation: how `dimensions` is shared out: "even", "proportional" or a list.
      redraw_every: a basis is kept for so many weight updates; None: for ever. With "history": every
        so manieth gradient is kept.
      seed: an int in [0, 2**64). None draws one (from Python's `random`, which
        `keras.utils.set_random_seed` seeds) and records it in `seed` and in `get_config()`, so in saved
        models. It is not in checkpoints of weights: give one if training is to go on from those.
      replicas: what the K replicas of a `tf.distribute` strategy do, each with the gradient g_k of its
        part of the batch: "shared": all project on the same d directions, P P^T mean_k g_k;
        "independent": each has d of its own, mean_k P_k P_k^T g_k; "split": they share d out,
        sum_k P_k P_k^T g_k. Only coordinates travel, and each replica generates the others' directions.
        Learning rate and (global) batch mean the same for every K. Make model and optimizer in the
        strategy's scope.
      exchange: "coordinates"; or "updates", with "split" only: replicas generate no directions but their
        own, and all D numbers of P_k P_k^T g_k travel.
      keep_fraction: only this fraction of a step's coordinates, those of largest magnitude, move the
        weights.
      redraw_fraction: a redraw is of this fraction of the directions only, those whose coordinates had
        the smallest magnitude in the step before; 1: of all. For bases of independent entries.
      memory_limit: with basis="history", and only with it: the most bytes that the gradients, 4 d D
        bytes, may take. While one is taken in there are two copies.
      name: of the optimizer.

    Raises:
      TypeError, ValueError: for an argument that is not allowed, naming it.

    Example:

    >>> optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(1.0), dimensions=250, seed=0)
    >>> model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    """

_INNER_ARGUMENTS = (
    "clipnorm",
    "clipvalue",
    "decay",
    "ema_momentum",
    "ema_overwrite_frequency",
    "global_clipnorm",
    "gradient_accumulation_steps",
    "learning_rate",
    "loss_scale_factor",
    "lr",
    "momentum",
    "use_ema",
    "weight_decay",
)


_ALONE = Alone()


class RandomBasesRule:
    """Sketches gradients; holds the arguments of `RandomBasesDescent` and, once built, the subspace."""

    def __init__(
        self,
        dimensions: int,
        basis: Union[str, Basis],
        compartments: Compartments,
        allocation: Allocation,
        redraw_every: Optional[int],
        seed: Optional[int],
        replicas: str = "shared",
        exchange: str = "coordinates",
        keep_fraction: float = 1.0,
        redraw_fraction: float = 1.0,
        memory_limit: Optional[int] = None,
    ):
        if redraw_every is not None and not (is_int(redraw_every) and 1 <= redraw_every < 2**31):
            raise ValueError(
                f"redraw_every={redraw_every!r} must be an int from 1 to 2**31 - 1, or None (never)."
            )
        if seed is None:
            seed = random.randrange(2**31)
        if not is_int(seed):
            raise TypeError(f"seed={seed!r} must be an int, or None to draw one.")
        as_seed(seed)
        # What can be refused before the variables are known is refused now, by what will refuse it.
        if isinstance(basis, dict):
            basis = bases.deserialize(basis)
        if isinstance(basis, str) and basis not in (history.NAME, *bases.names()):
            allowed = f"{[*bases.names(), history.NAME]}, or a Basis"
            raise ValueError(f"basis={basis!r} is unknown; allowed: {allowed}.")
        if not isinstance(basis, (str, Basis)):
            raise TypeError(f"basis={basis!r} must be a name or a Basis.")
        if isinstance(compartments, str):
            split([1], compartments, paths=[""])
        if isinstance(allocation, str):
            allocate([1], 1, allocation)
        if not is_int(dimensions) or dimensions < 1:
            raise ValueError(f"dimensions={dimensions!r} must be an int of at least 1.")
        for name, value, allowed in (("replicas", replicas, REPLICAS), ("exchange", exchange, EXCHANGES)):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is unknown; allowed: {allowed}.")
        if exchange == "updates" and replicas != "split":
            raise ValueError(f'exchange="updates" needs replicas="split", not {replicas!r}.')
        for name, value in (("keep_fraction", keep_fraction), ("redraw_fraction", redraw_fraction)):
            if not is_number(value) or not 0 < value <= 1:
                raise ValueError(f"{name}={value!r} must be a number in (0, 1].")
        if keep_fraction < 1 and exchange == "updates":
            raise ValueError(
                f'keep_fraction={keep_fraction} chooses among all coordinates, which exchange="updates" does '
                'not gather; allowed: exchange="coordinates".'
            )
        # As what JSON has: they go into configurations.
        self.dimensions = int(dimensions)
        self.basis = basis
        self.compartments = plain(compartments)
        self.allocation = plain(allocation)
        self.redraw_every = None if redraw_every is None else int(redraw_every)
        self.seed = int(seed)
        self.replicas = replicas
        self.exchange = exchange
        self.keep_fraction = float(keep_fraction)
        self.redraw_fraction = float(redraw_fraction)
        self.memory_limit = plain(memory_limit)
        self._refuse_combinations()
        # Known once built, or once a step was traced.
        self.workers: Union[None, Exchange, history.GradientHistory] = None
        # A variable of `state_spec`, made by the adapter.
        self.state: Optional[tf.Variable] = None
        self.bytes_per_step: Optional[int] = None
        self.untouched: Optional[List[int]] = None
        self._record: Optional[Callable[[tf.Tensor, tf.Tensor], None]] = None

    def _refuse_combinations(self) -> None:
        """Raises ValueError for arguments that exclude each other."""
        if self._redraws_weakest:
            if self.redraw_every is None:
                raise ValueError(
                    f"redraw_fraction={self.redraw_fraction} with redraw_every=None, which never redraws."
                )
            if self.replicas != "shared":
                raise ValueError(
                    f'redraw_fraction={self.redraw_fraction} needs replicas="shared", not {self.replicas!r}.'
                )
        if not self._keeps_gradients:
            if self.memory_limit is not None:
                raise ValueError(f'memory_limit={self.memory_limit!r} is for basis="history" only.')
            return
        if not is_int(self.memory_limit):
            raise ValueError(
                f'memory_limit={self.memory_limit!r} must be an int with basis="history": the most bytes '
                "that the last `dimensions` gradients may take."
            )
        for name, allowed in (("compartments", "network"), ("redraw_fraction", 1), ("replicas", "shared")):
            if getattr(self, name) != allowed:
                raise ValueError(
                    f'basis="history" allows {name}={allowed!r} only, not {getattr(self, name)!r}.'
                )
        if self.redraw_every is None:
            raise ValueError('basis="history" with redraw_every=None would keep no gradient.')

    @property
    def _keeps_gradients(self) -> bool:
        return self.basis == history.NAME

    @property
    def _redraws_weakest(self) -> bool:
        return self.redraw_fraction < 1

    @property
    def subspace(self) -> Optional[Subspace]:
        """One worker's directions, once built; None of a history, which no seed draws."""
        return getattr(self.workers, "subspace", None)

    @property
    def state_spec(self) -> Optional[Dict[str, Any]]:
        """What must be kept from step to step, once built: name, shape and dtype of a variable of zeros."""
        if self._keeps_gradients:
            return {"name": "gradients", "shape": self.workers.state_shape, "dtype": "float32"}
        if self._redraws_weakest:
            return {"name": "draws", "shape": (self.dimensions,), "dtype": "int32"}
        return None

    def build(self, shapes: Sequence[Sequence[int]], paths: Sequence[str], workers: int = 1) -> None:
        """Fixes the variables, their shapes and paths ("dense/kernel"), and the number of workers.

        Raises:
          ValueError: if the directions cannot be shared out among compartments or workers.
        """
        if self._keeps_gradients:
            if workers > 1:
                raise ValueError(f'basis="history" needs one replica; the strategy has {workers}.')
            self.workers = history.GradientHistory(shapes, self.dimensions, self.memory_limit)
            return

        def subspace(dimensions):
            basis, allocation = self.basis, self.allocation
            if dimensions != self.dimensions:
                if not isinstance(allocation, str):
                    raise ValueError(
                        f"allocation={list(allocation)!r} cannot be shared out among workers; give a rule."
                    )
                if isinstance(basis, Basis):
                    basis = bases.get(basis, basis.size, dimensions)
            return Subspace(shapes, dimensions, basis, self.compartments, allocation, paths)

        exchange = Exchange(self.replicas, self.exchange, self.dimensions, workers, subspace)
        if self._redraws_weakest and not exchange.subspace.entrywise:
            raise ValueError(
                f"redraw_fraction={self.redraw_fraction} is not possible with basis={self.basis!r}, whose "
                'directions are drawn together; allowed: those of independent entries ("normal", ...).'
            )
        self.workers = exchange

    def record(self, write: Callable[[tf.Tensor, tf.Tensor], None]) -> None:
        """Has `write(coordinates, updates)` called in every step: float32 `workers.shape`, integer scalar.

        Raises:
          ValueError: with `exchange="updates"`, where no worker knows all coordinates; with
            `basis="history"` or a `redraw_fraction`, as the seed does not tell the directions.
        """
        if self._keeps_gradients or self._redraws_weakest:
            raise ValueError(
                f"basis={self.basis!r} with redraw_fraction={self.redraw_fraction} cannot be replayed: its "
                "directions depend on earlier steps."
            )
        if self.exchange == "updates":
            raise ValueError('exchange="updates" leaves no coordinates to record; allowed: "coordinates".')
        self._record = write

    def draw(self, updates: tf.Tensor) -> tf.Tensor:
        """The number of the redraw, int32, after so many weight updates."""
        if self.redraw_every is None:
            return tf.constant(0)
        return tf.cast(updates, tf.int32) // self.redraw_every

    def draws(self, updates: tf.Tensor) -> tf.Tensor:
        """`draw`; with a `redraw_fraction`, the number of the redraw that each direction is of, int32 [d]."""
        return tf.convert_to_tensor(self.state) if self._redraws_weakest else self.draw(updates)

    def __call__(
        self, gradients: Sequence[Optional[tf.Tensor]], updates: tf.Tensor, workers=_ALONE
    ) -> List[Optional[tf.Tensor]]:
        """P P^T g for a list of gradients; with several workers, what `Exchange` makes of theirs.

        Args:
          gradients: one tensor, `IndexedSlices` or None for each variable. None counts as zero in
            the projection and stays None: that variable is not moved.
          updates: integer scalar, how many weight updates were made before.
          workers: who takes part, as in `Exchange.project`; with several, `gradients` times their `share` are
            divided by their number.

        Returns:
          A list of tensors of the gradients' shapes and dtypes, and None where there was None.
        """
        tensors = [
            tf.zeros(shape) if gradient is None else densify(gradient, shape)
            for gradient, shape in zip(gradients, self.workers.shapes)
        ]
        if workers.count != self.workers.workers:
            raise ValueError(
                f"RandomBasesDescent was built for {self.workers.workers} workers and called by one of "
                f"{workers.count}; make model and optimizer in the scope of the strategy."
            )
        if workers.share != 1.0:
            tensors = [tensor * tf.cast(workers.share, tensor.dtype) for tensor in tensors]
        coordinates, sketched = self._step(tensors, updates, workers)
        if self._record is not None:
            self._record(coordinates, updates)
        self.bytes_per_step = workers.sent
        self.untouched = [i for i, gradient in enumerate(gradients) if gradient is None]
        return [
            None if gradient is None else tf.cast(update, tensor.dtype)
            for gradient, tensor, update in zip(gradients, tensors, sketched)
        ]

    def _step(self, tensors: List[tf.Tensor], updates: tf.Tensor, workers):
        """The coordinates of all workers, and what the inner optimizer gets; the state moves on."""
        draw = self.draw(updates)
        if self._keeps_gradients:
            directions = tf.convert_to_tensor(self.state)
            coordinates = self._chosen(self.workers.project(tensors, directions))
            sketched = self.workers.expand(coordinates, directions)
            self._update_state(lambda: self.workers.taken_in(directions, tensors, draw), updates)
            return coordinates, sketched
        draws = self.draws(updates)
        if workers.count == 1 and self._record is None and self.keep_fraction == 1:
            # One pass over the directions can serve both.
            c, sketched = self.subspace.sketch(tensors, self.seed, draws)
            projected = coordinates = c[tf.newaxis]
        else:
            # A recorded step must use the same program, `expand`, as its replay does.
            projected = self.workers.project(tensors, self.seed, draws, workers)
            coordinates = self._chosen(projected)
            sketched = self.workers.update(coordinates, self.seed, draws, workers)
        if self._redraws_weakest:
            number = number_of(self.redraw_fraction, self.dimensions)
            self._update_state(lambda: redraw_weakest(draws, projected[0], number, draw + 1), updates)
        return coordinates, sketched

    def _chosen(self, coordinates: tf.Tensor) -> tf.Tensor:
        if self.keep_fraction == 1:
            return coordinates
        return keep_largest(coordinates, number_of(self.keep_fraction, self.dimensions))

    def _update_state(self, value: Callable[[], tf.Tensor], updates: tf.Tensor) -> None:
        """Assigns a new value to the state, if the basis is redrawn after this update."""
        if self.redraw_every > 1:
            redraws = tf.equal((tf.cast(updates, tf.int32) + 1) % self.redraw_every, 0)
            new = tf.cond(redraws, value, lambda: tf.convert_to_tensor(self.state))
        else:
            new = value()
        self.state.assign(new)

    def get_config(self) -> Dict[str, Any]:
        basis = self.basis
        return {
            "dimensions": self.dimensions,
            "basis": basis if isinstance(basis, str) else bases.serialize(basis),
            "compartments": self.compartments,
            "allocation": self.allocation,
            "redraw_every": self.redraw_every,
            "seed": self.seed,
            "replicas": self.replicas,
            "exchange": self.exchange,
            "keep_fraction": self.keep_fraction,
            "redraw_fraction": self.redraw_fraction,
            "memory_limit": self.memory_limit,
        }


def densify(gradient, shape: Sequence[int]) -> tf.Tensor:
    """`gradient` as a dense tensor of a known shape, whether it was `IndexedSlices` or not."""
    if isinstance(gradient, tf.IndexedSlices):
        # tf.convert_to_tensor would warn, and forget the shape where it is a tensor of a graph.
        summed = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, shape[0])
        return tf.reshape(summed, shape)
    return tf.convert_to_tensor(gradient)


def positions(variables: Sequence, indices: Dict[Any, int], key: Callable) -> List[int]:
    """The numbers that variables were given when the optimizer was built, by their keys.

    Raises:
      ValueError: for a variable that was not there then.
    """
    for variable in variables:
        if key(variable) not in indices:
            raise ValueError(
                f"RandomBasesDescent was built for {len(indices)} variables, and {variable.name!r} is not "
                "one of them: make a new optimizer when a model gets more variables to train."
            )
    return [indices[key(variable)] for variable in variables]


def refuse(arguments: Dict[str, Any]) -> None:
    """Raises TypeError for arguments that `RandomBasesDescent` does not have, with advice."""
    for name in arguments:
        if name in _INNER_ARGUMENTS:
            raise TypeError(
                f"RandomBasesDescent has no argument {name!r}: give it to the inner optimizer, "
                f"e.g. RandomBasesDescent(keras.optimizers.SGD(..., {name}=...), ...)."
            )
        raise TypeError(f"RandomBasesDescent has no argument {name!r}.")


def resolve_inner(inner_optimizer, keras):
    """The inner optimizer as an instance; refuses what must not be inside."""
    if isinstance(inner_optimizer, (str, dict)):
        inner_optimizer = keras.optimizers.get(inner_optimizer)
    if isinstance(inner_optimizer, keras.mixed_precision.LossScaleOptimizer):
        raise ValueError(
            "inner_optimizer is a LossScaleOptimizer; put it outside: "
            "LossScaleOptimizer(RandomBasesDescent(...)). `compile` does so by itself under mixed "
            "precision."
        )
    if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"inner_optimizer={inner_optimizer!r} is a {type(inner_optimizer).__module__}."
            f"{type(inner_optimizer).__name__}; "
            f"it must be a keras.optimizers.Optimizer of Keras {keras.__version__}, not a legacy one."
        )
    return inner_optimizer
