"""What `RandomBasesDescent` is in every Keras: its arguments, and what it hands on to the inner optimizer."""

from typing import Any, Callable, Dict, Optional, Union

from random_bases.bases.basis import Basis
from random_bases.compartments import Allocation, Compartments
from random_bases.keras_api import GENERATION, keras, tf_variable_of
from random_bases.optimizers.directions import StateSpec
from random_bases.optimizers.memories import Memories
from random_bases.optimizers.rule import RandomBasesRule

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


def of_inner(name: str) -> property:
    """An attribute that is the inner optimizer's, whichever of the two it is read of or set on."""

    def read(self):
        return getattr(self.inner_optimizer, name)

    def write(self, value):
        # While it is made, Keras 3 sets all of them to nothing.
        if "inner_optimizer" in vars(self):
            setattr(self.inner_optimizer, name, value)

    return property(read, write)


class Wrapper:
    """Descent in random bases, around any Keras optimizer.

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
      compartments: "network", "layer", "variable", an int (that many equal parts) or a list of sizes; by
        default "network", and "variable" with basis="kronecker", which allows no other.
      allocation: how `dimensions` is shared out: "even", "proportional" or a list.
      redraw_every: a basis is kept for so many weight updates; None: for ever. With "history": one
        gradient of so many is kept.
      seed: an int in [0, 2**64). None draws one (from Python's `random`, which
        `keras.utils.set_random_seed` seeds) and records it in `seed` and in `get_config()`, so in saved
        models. It is not in checkpoints of weights: give one if training is to go on from those. Several
        processes must be given one.
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
      error_feedback: True: what the directions of a step do not see of a gradient is remembered, in D
        float32 numbers, and added to later ones: e <- e + g, c = P^T e, u = P c, e <- e - u, and the inner
        optimizer gets u (Seide et al. 2014; Karimireddy et al. 2019, arXiv:1901.09847). E[u] is about g, so
        the learning rate is SGD's own, not n / d times it; what arrives is late by about n / d updates,
        which bounds it to about d / tr(H), with the Hessian H: see docs/methods.md. It is later where fewer
        directions see a memory: `redraw_every` times, and K times with "split". A number in (0, 1] is a
        leak: the memory is multiplied by it at each update. Allowed with orthonormal bases that are
        redrawn, and with others for `redraw_every=1` and at most about n / 2 directions. What a
        `keep_fraction` leaves out is remembered, too, and each replica then sends the values and indices
        of its own largest coordinates; with all D directions, fixed, that is DeMo's compressor
        (arXiv:2411.19870). Each replica has a memory e_k of its own, and the inner optimizer gets
        mean_k P_k P_k^T e_k, with "split", too. Checkpoints have all memories, and go on bit for bit;
        restored by another number of replicas, each gets their mean, with a warning. Saved models have
        the mean only. On IPUs with one replica only.
      memory_limit: with basis="history", and only with it: the most bytes that the gradients, 4 d D
        bytes, may take. While one is taken in there are two copies.
      name: of the optimizer.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if its value is not allowed.

    Example:
    >>> optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(1.0), dimensions=250, seed=0)
    >>> model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    """

    rule: RandomBasesRule
    _track_trackable: Callable[..., Any]  # Keras's

    def __init__(
        self,
        inner_optimizer: Any,
        dimensions: int,
        *,
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
        name: str = "random_bases_descent",
        **unknown: Any,
    ):
        _refuse(unknown)
        rule = RandomBasesRule(
            dimensions,
            basis=basis,
            compartments=compartments,
            allocation=allocation,
            redraw_every=redraw_every,
            seed=seed,
            replicas=replicas,
            exchange=exchange,
            keep_fraction=keep_fraction,
            redraw_fraction=redraw_fraction,
            error_feedback=error_feedback,
            memory_limit=memory_limit,
        )
        self._wrap(_resolved(inner_optimizer), rule, name)

    def _wrap(self, inner_optimizer: Any, rule: RandomBasesRule, name: str) -> None:
        """Makes this an optimizer of the Keras at hand, with these attributes."""
        raise NotImplementedError

    def _make_state(self, spec: StateSpec) -> Any:
        """A variable of the optimizer; what replicas have their own of is in no checkpoint by itself."""
        raise NotImplementedError

    def _make_states(self) -> None:
        """Makes what the rule keeps from step to step, and has checkpoints hold it; once."""
        if self.rule.make_state(self._make_state) and self.rule.own_state:
            variables = [tf_variable_of(variable) for variable in self.rule.own_state]
            self._track_trackable(Memories(variables, self.rule.replica_count), "memories")

    @property
    def seed(self) -> int:
        """The seed of the directions."""
        return self.rule.seed

    @property
    def bytes_per_step(self) -> Optional[int]:
        """What each replica sends to others in a step, in bytes; None before the first step is traced.

        Counted from the tensors exchanged, as rings send them: 2 (K - 1) / K times what is reduced over
        K replicas, K - 1 times what is gathered.
        """
        return self.rule.bytes_per_step

    @property
    def iterations(self):
        """The number of weight updates made."""
        return self.inner_optimizer.iterations

    @iterations.setter
    def iterations(self, variable):
        self.inner_optimizer.iterations = variable

    @property
    def learning_rate(self):
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    # What is done with them is done by the inner optimizer, to P P^T g and in weight space.
    clipnorm = of_inner("clipnorm")
    clipvalue = of_inner("clipvalue")
    global_clipnorm = of_inner("global_clipnorm")
    weight_decay = of_inner("weight_decay")
    use_ema = of_inner("use_ema")
    ema_momentum = of_inner("ema_momentum")
    ema_overwrite_frequency = of_inner("ema_overwrite_frequency")

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self):
        inner = keras.optimizers.serialize(self.inner_optimizer)
        return {"inner_optimizer": inner, **self.rule.get_config()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        return cls(_deserialized(config.pop("inner_optimizer"), custom_objects), **config)


def _refuse(arguments: Dict[str, Any]) -> None:
    """Raises TypeError for arguments that `RandomBasesDescent` does not have, with advice."""
    for name in arguments:
        if name in _INNER_ARGUMENTS:
            raise TypeError(
                f"RandomBasesDescent has no argument {name!r}: give it to the inner optimizer, "
                f"e.g. RandomBasesDescent(keras.optimizers.SGD(..., {name}=...), ...)."
            )
        raise TypeError(f"RandomBasesDescent has no argument {name!r}.")


def _deserialized(config: Dict[str, Any], custom_objects: Optional[Dict[str, Any]] = None) -> Any:
    """The optimizer that a configuration describes, found wherever loading a model would find it."""
    if GENERATION == "keras3" and "module" in config:
        return keras.saving.deserialize_keras_object(config, custom_objects)
    # What `optimizers.deserialize` knows is a list, which lacks some of Keras's own.
    own = getattr(keras.optimizers, config["class_name"], None)
    if config.get("module") == "keras.optimizers" and own is not None:
        custom_objects = {config["class_name"]: own, **(custom_objects or {})}
    return keras.optimizers.deserialize(config, custom_objects)


def _resolved(inner_optimizer: Any) -> Any:
    """The inner optimizer as an instance; refuses what must not be inside."""
    if isinstance(inner_optimizer, dict):
        inner_optimizer = _deserialized(inner_optimizer)
    elif isinstance(inner_optimizer, str):
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
