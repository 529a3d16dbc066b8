"""The rule of random bases descent: what the inner optimizer gets in place of the gradient.

Gressmann et al. 2020, equations 3 to 5: theta <- theta - lr P P^T g with P redrawn for each update
(RBD), or drawn once (FPD; Li et al. 2018). Free of Keras: the adapters beside this file connect it to
the three Keras optimizer APIs.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments, bases, device
from random_bases.arguments import fraction, integer, is_int, is_number, one_of, plain
from random_bases.bases.basis import Basis
from random_bases.compartments import Allocation, Compartments, allocate, defaults, split
from random_bases.optimizers import history
from random_bases.optimizers.collectives import SingleReplica
from random_bases.optimizers.directions import PartlyRedrawn, Redraws, SeededDirections, StateSpec
from random_bases.optimizers.error_feedback import ErrorFeedback
from random_bases.optimizers.exchange import EXCHANGES, REPLICAS, Exchange
from random_bases.subspace import Subspace
from random_bases.tensors import densify

_SINGLE = SingleReplica()

# Any of these does a step.
Directions = Union[SeededDirections, history.GradientHistory, ErrorFeedback]


class RandomBasesRule:
    """Sketches gradients; holds the arguments of `RandomBasesDescent`, where they are described.

    Attributes:
      directions: what does a step, once built.
      bytes_per_step: what a replica sends, once a step was traced.
      untouched: the indices of the variables without a gradient, once a step was traced.
    """

    def __init__(
        self,
        dimensions: int,
        basis: Union[str, Dict[str, Any], Basis] = "normal",
        compartments: Optional[Compartments] = None,
        allocation: Optional[Allocation] = None,
        redraw_every: Optional[int] = 1,
        seed: Optional[int] = None,
        replicas: str = "shared",
        exchange: str = "coordinates",
        keep_fraction: float = 1.0,
        redraw_fraction: float = 1.0,
        error_feedback: Union[bool, float] = False,
        memory_limit: Optional[int] = None,
    ):
        # What can be refused before the variables are known is refused now, by what will refuse it.
        self.dimensions = integer("dimensions", dimensions, 1)
        self.basis = _checked_basis(basis)
        if isinstance(compartments, str):
            split([1], compartments, paths=[""])
        if isinstance(allocation, str):
            allocate([1], 1, allocation)
        # As what JSON has: they go into configurations.
        compartments, allocation = defaults(basis, compartments, allocation)
        self.compartments = plain(compartments)
        self.allocation = plain(allocation)
        self.redraw_every = (
            None if redraw_every is None else integer("redraw_every", redraw_every, 1, 2**31 - 1)
        )
        self.seed = device.seed(seed)
        self.replicas = one_of("replicas", replicas, REPLICAS)
        self.exchange = one_of("exchange", exchange, EXCHANGES)
        self.keep_fraction = fraction("keep_fraction", keep_fraction)
        self.redraw_fraction = fraction("redraw_fraction", redraw_fraction)
        self.error_feedback = _checked_leak(error_feedback)
        self.memory_limit = plain(memory_limit)
        self._refuse_combinations()
        self.directions: Optional[Directions] = None
        self.bytes_per_step: Optional[int] = None
        self.untouched: Optional[List[int]] = None
        self._record: Optional[Callable[[Tensor, Tensor], None]] = None

    def _refuse_combinations(self) -> None:
        """Raises ValueError for arguments that exclude each other."""
        if self.exchange == "updates":
            self._refuse_others('exchange="updates"', "replicas", "split")
            # It chooses among all coordinates, which nobody has then.
            self._refuse_others('exchange="updates"', "keep_fraction", 1)
        if self.redraw_fraction < 1:
            what = f"redraw_fraction={self.redraw_fraction}"
            self._refuse_others(what, "replicas", "shared")
            self._refuse_others(what, "error_feedback", False)
            if self.redraw_every is None:
                raise ValueError(f"{what} with redraw_every=None, which never redraws.")
        if self.error_feedback and self.keep_fraction < 1:
            self._refuse_others("error_feedback with a keep_fraction", "replicas", "shared")
        if self.basis != history.NAME:
            if self.memory_limit is not None:
                raise ValueError(f'memory_limit={self.memory_limit!r} is for basis="history" only.')
            return
        if not is_int(self.memory_limit):
            raise ValueError(
                f'memory_limit={self.memory_limit!r} must be an int with basis="history": the most bytes '
                "that the last `dimensions` gradients may take."
            )
        for name, allowed in (
            ("compartments", "network"),
            ("redraw_fraction", 1),
            ("replicas", "shared"),
            ("error_feedback", False),
        ):
            self._refuse_others('basis="history"', name, allowed)
        if self.redraw_every is None:
            raise ValueError('basis="history" with redraw_every=None would keep no gradient.')

    def _refuse_others(self, what: str, name: str, allowed: Any) -> None:
        value = getattr(self, name)
        if value != allowed:
            raise ValueError(f"{what} allows {name}={allowed!r} only, not {value!r}.")

    @property
    def subspace(self) -> Optional[Subspace]:
        """One replica's directions, once built; None of a history, which no seed draws."""
        exchange = getattr(self.directions, "exchange", None)
        return None if exchange is None else exchange.subspace

    def build(
        self,
        shapes: Sequence[Sequence[int]],
        paths: Sequence[str],
        replica_count: int = 1,
        has_own_variables: bool = True,
    ) -> None:
        """Fixes the variables, their shapes and paths ("dense/kernel"), and the number of replicas.

        Args:
          has_own_variables: whether a variable may have another value in each replica.

        Raises:
          ValueError: if the directions cannot be shared out among compartments or replicas, or cannot
            have what was asked for.
        """
        redraws = Redraws(self.redraw_every)
        if self.basis == history.NAME:
            if replica_count > 1:
                raise ValueError(f'basis="history" needs one replica; the strategy has {replica_count}.')
            self.directions = history.GradientHistory(
                shapes, self.dimensions, self.memory_limit, redraws, self.keep_fraction
            )
            return

        def subspace(dimensions):
            return self._subspace(dimensions, shapes, paths)

        remembers = bool(self.error_feedback)
        if remembers and replica_count > 1 and not has_own_variables:
            raise ValueError(
                f"error_feedback={self.error_feedback} needs a memory for each replica, and the variables of "
                f"an IPU's program are the same on all {replica_count}; allowed there: one replica."
            )
        exchange = Exchange(
            self.replicas, self.exchange, self.dimensions, replica_count, subspace, scaled=not remembers
        )
        if self.redraw_fraction < 1:
            if not exchange.subspace.entrywise:
                raise ValueError(
                    f"redraw_fraction={self.redraw_fraction} needs directions that are drawn one by one, not "
                    f'basis={self.basis!r}; allowed: those of independent entries ("normal", ...).'
                )
            self.directions = PartlyRedrawn(
                exchange, self.seed, redraws, self.redraw_fraction, self.keep_fraction
            )
            return
        directions = SeededDirections(exchange, self.seed, redraws, self.keep_fraction, keep_own=remembers)
        self.directions = ErrorFeedback(directions, float(self.error_feedback)) if remembers else directions

    def _subspace(self, dimensions: int, shapes: Sequence[Sequence[int]], paths: Sequence[str]) -> Subspace:
        """One replica's directions, `dimensions` of them."""
        basis = self.basis
        if dimensions != self.dimensions:
            if not isinstance(self.allocation, str):
                raise ValueError(
                    f"allocation={list(self.allocation)!r} cannot be shared out among replicas; give a rule."
                )
            if isinstance(basis, Basis):
                basis = bases.get(basis, basis.size, dimensions)
        return Subspace(shapes, dimensions, basis, self.compartments, self.allocation, paths)

    def make_state(self, make: Callable[[StateSpec], tf.Variable]) -> bool:
        """Has `make` make the variables that are kept from step to step; False if they are there already."""
        directions = self._built()
        if directions.state:
            return False
        directions.state = [make(spec) for spec in directions.state_specs]
        return True

    @property
    def replica_count(self) -> int:
        """K, once built."""
        return self._built().replica_count

    @property
    def own_state(self) -> List[tf.Variable]:
        """Those variables of which each replica has its own."""
        if self.directions is None:
            return []
        return [each for each, spec in zip(self.directions.state, self.directions.state_specs) if spec.own]

    def _built(self) -> Directions:
        assert self.directions is not None, "`build` comes first"
        return self.directions

    def record(self, write: Callable[[Tensor, Tensor], None]) -> None:
        """Has `write(coordinates, updates)` called in every step: float32 `directions.shape`, integer scalar.

        Raises:
          ValueError: with `exchange="updates"`, where no replica knows all coordinates; with
            `basis="history"` or a `redraw_fraction`, as the seed does not tell the directions.
        """
        if self.basis == history.NAME or self.redraw_fraction < 1:
            raise ValueError(
                f"basis={self.basis!r} with redraw_fraction={self.redraw_fraction} cannot be replayed: its "
                "directions depend on earlier steps."
            )
        if self.exchange == "updates":
            raise ValueError('exchange="updates" leaves no coordinates to record; allowed: "coordinates".')
        self._record = write

    def __call__(
        self, gradients: Sequence[Optional[Tensor]], updates: Tensor, replicas=_SINGLE
    ) -> List[Optional[Tensor]]:
        """What the inner optimizer gets for a list of gradients: P P^T g with one replica.

        Args:
          gradients: one tensor, `IndexedSlices` or None for each variable. None counts as zero in
            the projection and stays None: that variable is not moved.
          updates: integer scalar, how many weight updates were made before.
          replicas: who takes part, of `collectives`; with several, `gradients` times their `share` are
            divided by their number.

        Returns:
          A list of tensors of the gradients' shapes and dtypes, and None where there was None.
        """
        directions = self._built()
        if replicas.count != directions.replica_count:
            raise ValueError(
                f"RandomBasesDescent was built for {directions.replica_count} replicas and called by "
                f"one of {replicas.count}; make model and optimizer in the scope of the strategy."
            )
        tensors = [
            None if gradient is None else densify(gradient, shape)
            for gradient, shape in zip(gradients, directions.shapes)
        ]
        if replicas.share != 1.0:
            tensors = [None if t is None else t * tf.cast(replicas.share, t.dtype) for t in tensors]
        step = directions.step(tensors, updates, replicas, recorded=self._record is not None)
        if self._record is not None:
            self._record(step.coordinates, updates)
        self.bytes_per_step = replicas.sent
        self.untouched = [i for i, gradient in enumerate(gradients) if gradient is None]
        return [
            None if tensor is None else tf.cast(update, tensor.dtype)
            for tensor, update in zip(tensors, step.update)
        ]

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
            "error_feedback": self.error_feedback,
            "memory_limit": self.memory_limit,
        }


def _checked_leak(error_feedback: Union[bool, float]) -> Union[bool, float]:
    if isinstance(error_feedback, (bool, np.bool_)):
        return bool(error_feedback)
    what = "True, False or a number in (0, 1]"
    arguments.check(is_number(error_feedback), "error_feedback", error_feedback, what, TypeError)
    arguments.check(0 < error_feedback <= 1, "error_feedback", error_feedback, what)
    return float(error_feedback)


def _checked_basis(basis: Union[str, Dict[str, Any], Basis]) -> Union[str, Basis]:
    if isinstance(basis, dict):
        basis = bases.deserialize(basis)
    if isinstance(basis, Basis):
        return basis
    return one_of("basis", basis, [*bases.names(), history.NAME], "or a Basis")


def positions(variables: Sequence, indices: Dict[Any, int], key: Callable) -> List[int]:
    """The indices that variables got when the optimizer was built, by their keys.

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
