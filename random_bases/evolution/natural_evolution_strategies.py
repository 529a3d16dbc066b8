"""Natural evolution strategies for Keras models.

Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning"
(arXiv:1703.03864), as used by Gressmann et al. 2020 (arXiv:2011.04720), and SPSA as in Malladi et al. 2023,
"Fine-Tuning Language Models with Just Forward Passes" (arXiv:2305.17333).
"""

import math
from fractions import Fraction
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from random_bases import arguments, bases, device, keras_api, strategies
from random_bases.bases.basis import Basis
from random_bases.batches import stream
from random_bases.compartments import Compartments
from random_bases.evolution import shaping
from random_bases.evolution.low_rank import LowRankPerturbations
from random_bases.evolution.objectives import ByObjective, Pool
from random_bases.evolution.offspring import Chunked, InPlace, OwnFactors, OwnWeights, Population
from random_bases.evolution.updates import Update, perturbations_of
from random_bases.evolution.workers import group_size, iterator, losses_of_all
from random_bases.first_steps import WarnOfGrowth
from random_bases.keras_api import keras
from random_bases.optimizers import RandomBasesDescent
from random_bases.optimizers.collectives import current_replicas

MINIBATCHES = ("independent", "shared")
UPDATE_SCALES = ("gradient", "paper")

# Notes what each direction of an update counts for, float32 [directions], and how many were made before it.
Keep = Callable[[tf.Tensor, tf.Tensor], None]

# More at a time save little more, and their activations would count.
_MOST_TOGETHER = 32


class NaturalEvolutionStrategies:
    """Trains a Keras model by the fitness of randomly perturbed weights, without gradients.

    Each update draws directions phi_j with entries of variance 1, evaluates the offspring at
    theta + sigma phi_j, shapes their fitness (the negative loss) to weights w_j, and hands

        -1 / (population * sigma) * sum_j w_j phi_j

    to the optimizer in place of the gradient: with `fitness="raw"` an unbiased estimate of the gradient of
    the loss smoothed over phi. Directions come from (`seed`, the number of the update) whenever they are
    needed: memory does not grow with the population.

    `population=2, antithetic=True, fitness="raw"` is SPSA, as used by MeZO: two forward passes an update, in
    the memory of inference if the optimizer is plain SGD (`learning_rate`) and the weights exceed
    `memory_limit`.

    On K replicas, those of the strategy in whose scope the model was made, each evaluates population / K
    offspring, and sends their losses, which are all that travels, but for what Keras adds up of compiled
    metrics. Each makes the same update of all losses: the weights stay equal bit for bit. What offspring
    there are, and what they see, does not depend on K.

    Args:
      model: a built Keras model, compiled with the loss to be minimised (unless there is an `objective`).
      population: offspring in an update; both halves of antithetic pairs count. On K replicas divisible by K,
        so that each has as many, or as many pairs.
      sigma: the perturbations' standard deviation.
      learning_rate: of plain SGD: a number or a Keras schedule.
      optimizer: in place of `learning_rate`: a Keras optimizer, by name or an instance. Either way it becomes
        `model.optimizer`, so callbacks, checkpoints and saving see it.
      fitness: "centered_ranks", "normalized", "raw", or a function from the fitness, float32 [population], to
        weights of the same shape; antithetic pairs are neighbours in it.
      antithetic: whether offspring come in pairs at +phi_j and -phi_j, which see the same mini-batch.
      minibatch: "independent": each direction has a mini-batch of its own; "shared": all offspring of an
        update see one (the hybrid of Gressmann et al.).
      basis: of the directions: a name in `random_bases.bases.names()`, or a `Basis` with size D and as many
        dimensions as there are directions. "low_rank" (EGGROLL, arXiv:2511.16652): products of two thin
        matrices of normals in the kernels of Keras's Dense, EinsumDense, Conv1D to 3D, their transposes,
        Embedding, LSTM, GRU and SimpleRNN; normals in all other weights. Offspring then share one product
        with each kernel, and have no kernels of their own: the way for large populations and large models.
      compartments: "network", "layer", "variable", an int or a list of sizes. With several, each direction
        moves one compartment only, and they share the directions evenly. None: "network", the one way
        with "low_rank".
      update_scale: "gradient": as above; "paper": that divided by sqrt(D), as the implementation of Gressmann
        et al. does, for reproducing it.
      objective: for what is no loss of a batch, or not differentiable: a Python function of (model, batch),
        or of the model alone if `fit` gets no data, to a number to be minimised. It is called with the
        offspring's weights in the model, one after another. On one replica only.
      training: what offspring are called with. False: no dropout noise, normalisation by moving averages,
        which stay as they are; True: as in `Model.fit`.
      memory_limit: bytes for the weights of offspring that are evaluated together, at most 32. If it is less
        than one direction's offspring need, they are evaluated one by one in the model's own weights, which
        are moved and moved back (equal up to rounding); on one replica only.
      jit_compile: whether offspring are evaluated in XLA. Without it, those evaluated together are slower.
        None: unless a layer cannot be, such as one of text.
      processes: how many others evaluate the `objective`, while `fit` runs; the same comes out whatever
        their number. Each makes the model anew, and gets the objective pickled: a function of a module, in
        a script whose main part is under `if __name__ == "__main__":`. None: this one evaluates.
      seed: of the directions, an int in [0, 2**64), and of the order of arrays given to `fit`. None: one that
        Python's `random` draws, on one process only.
      rank: of the products of `basis="low_rank"`, and with it only. None: 1, the cheapest; on FC-MNIST 2
        learnt as much in an update as full rank.

    Attributes:
      model, optimizer: as above.
      seed: as above, or what was drawn.
      bytes_per_update: what each replica sends to others in an update, in bytes, without metrics: its own
        losses, K - 1 times, as `RandomBasesDescent.bytes_per_step`. None before the first update is traced.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.

    Example:
    >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> nes = rb.NaturalEvolutionStrategies(model, population=250, sigma=0.01, learning_rate=0.1)
    >>> history = nes.fit(images, labels, batch_size=32, epochs=10)
    """

    def __init__(
        self,
        model: keras.Model,
        population: int,
        sigma: float,
        learning_rate: Optional[Union[float, Any]] = None,
        optimizer: Optional[Union[str, Any]] = None,
        fitness: Union[str, Callable[[tf.Tensor], tf.Tensor]] = "centered_ranks",
        antithetic: bool = False,
        minibatch: str = "independent",
        basis: Union[str, Basis] = "normal",
        compartments: Optional[Compartments] = None,
        update_scale: str = "gradient",
        objective: Optional[Callable] = None,
        training: bool = False,
        memory_limit: int = 2**27,
        jit_compile: Optional[bool] = None,
        seed: Optional[int] = None,
        rank: Optional[int] = None,
        processes: Optional[int] = None,
    ):
        keras_api.check_built(model, trainable=True)
        for name, value in (("antithetic", antithetic), ("training", training)):
            arguments.boolean(name, value)
        jit_compile = arguments.optional(arguments.boolean, "jit_compile", jit_compile)
        if jit_compile is None:
            jit_compile = keras_api.supports_xla(model)
        population = arguments.integer("population", population, 2)
        if antithetic and population % 2:
            raise ValueError(
                f"population={population} must be even with antithetic=True: both halves of pairs count."
            )
        sigma = arguments.positive("sigma", sigma)
        arguments.one_of("minibatch", minibatch, MINIBATCHES)
        arguments.one_of("update_scale", update_scale, UPDATE_SCALES)
        memory_limit = arguments.integer("memory_limit", memory_limit, 0)
        if objective is not None and not callable(objective):
            raise TypeError(f"objective={objective!r} must be a function, or None for the compiled loss.")
        processes = arguments.optional(arguments.integer, "processes", processes, 1)
        self.model = model
        self._strategy = keras_api.strategy_of(model)
        with self._strategy.scope():
            self.optimizer = _resolve_optimizer(learning_rate, optimizer)
            self.seed = device.seed(seed)
        self._shaping = shaping.get(fitness)
        self._objective = objective
        directions = population // 2 if antithetic else population
        perturbations, linear = perturbations_of(model, directions, basis, compartments, rank, self.seed)
        self._perturbations = perturbations
        self._basis, self._compartments = basis, arguments.plain(compartments)
        self._rank = arguments.optional(arguments.integer, "rank", rank, 1)
        self._scale = 1.0 / sigma
        if update_scale == "paper":
            self._scale /= math.sqrt(perturbations.size)
        self._population_size = population
        self._population = Population(
            model, perturbations, sigma, antithetic, minibatch == "shared", training, jit_compile
        )
        self._own: Union[OwnWeights, OwnFactors] = OwnWeights(self._population)
        if isinstance(perturbations, LowRankPerturbations) and objective is None:
            self._own = OwnFactors(self._population, perturbations, linear)
        self._rows = min(_MOST_TOGETHER, memory_limit // self._own.bytes)
        self.bytes_per_update: Optional[int] = None
        self._pool: Optional[Pool] = None
        if processes is not None:
            if objective is None:
                raise ValueError(f"processes={processes} is for an objective; allowed without one: None.")
            if self.in_place:
                raise ValueError(
                    f"memory_limit={memory_limit} has offspring evaluated in the model's own weights, which "
                    f"only one process does; allowed with processes={processes}: "
                    f"{self._own.bytes * len(self._population.signs)} or more."
                )
            self._pool = Pool(self._population, self.update_config(), objective, processes)
        self._replicas = strategies.replicas(self._strategy)
        if self._replicas > 1:
            self._check_replicas(memory_limit)
        with self._strategy.scope():
            keras_api.build_optimizer(self.optimizer, model.trainable_variables)
        keras_api.attach_optimizer(model, self.optimizer)
        self._made_for: Optional[Tuple[Any, Optional[Keep]]] = None
        self._keep: Optional[Keep] = None

    def _check_replicas(self, memory_limit: int) -> None:
        """Raises ValueError for what several replicas cannot do, or would do each in its own way."""
        count, signs = self._replicas, len(self._population.signs)
        if self._population_size % (signs * count):
            pairs = "" if signs == 1 else " pairs"
            raise ValueError(
                f"population={self._population_size} must be {count} replicas times as many{pairs} each: "
                f"divisible by {signs * count}."
            )
        if self._objective is not None:
            raise ValueError(f"objective={self._objective!r} is for one replica; allowed on {count}: None.")
        if self.in_place:
            raise ValueError(
                f"memory_limit={memory_limit} has offspring evaluated in the model's own weights, which "
                f"would part by rounding on {count} replicas; allowed there: {self._own.bytes * signs} or "
                "more, what the offspring of one direction take."
            )
        if isinstance(self.optimizer, RandomBasesDescent):
            raise ValueError(
                f"optimizer is a RandomBasesDescent, which would add up what is equal on {count} replicas; "
                "allowed there: other optimizers."
            )
        whole = device.of(self._strategy).compiles_whole
        iterations = keras_api.tf_variable_of(self.optimizer.iterations)
        if not whole and not self._strategy.extended.variable_created_in_scope(iterations):
            raise ValueError(
                f"optimizer was not made in the scope of the strategy of model={self.model.name!r}; allowed: "
                "one that was."
            )

    @property
    def in_place(self) -> bool:
        """Whether offspring are evaluated one by one in the model's own weights."""
        return self._rows < len(self._population.signs)

    @property
    def _group(self) -> Optional[int]:
        """How many of an update's batches come in one piece."""
        # What IPUs deal out among replicas are single ones.
        dealt = self._replicas > 1 and device.of(self._strategy).compiles_whole
        if self._population.shared or self.in_place or self._objective is not None or dealt:
            return None
        directions = self._rows // len(self._population.signs)
        return group_size(self._perturbations.count // self._replicas, directions)

    @property
    def batches_per_update(self) -> int:
        """How many batches an update takes from the data."""
        return 1 if self._population.shared else self._perturbations.count

    @property
    def directions(self) -> int:
        """How many directions an update has: `population`, or half of it with `antithetic`."""
        return self._perturbations.count

    def record(self, keep: Keep) -> None:
        """Has every update of the `fit` that has begun call `keep`; for callbacks, when training begins.

        Raises:
          ValueError: if another callback has asked for it.
        """
        if self._keep is not None:
            raise ValueError("callbacks: two record the updates of one fit; allowed: one ReplayLog.")
        self._keep = keep

    def update_config(self) -> Dict[str, Any]:
        """What an update of the weights depends on, beside what its directions count for; for JSON."""
        basis = self._basis
        return {
            "directions": self.directions,
            "antithetic": self._population.antithetic,
            "sigma": self._population.sigma,
            "basis": basis if isinstance(basis, str) else bases.serialize(basis),
            "compartments": self._compartments,
            "rank": self._rank,
            "seed": self.seed,
            "in_place": self.in_place,
        }

    def fit(
        self,
        x=None,
        y=None,
        batch_size: Optional[int] = None,
        epochs: int = 1,
        verbose: Union[str, int] = "auto",
        callbacks: Optional[Sequence[keras.callbacks.Callback]] = None,
        validation_data=None,
        shuffle: bool = True,
        sample_weight=None,
        initial_epoch: int = 0,
        steps_per_epoch: Optional[Union[float, Fraction]] = None,
        validation_steps: Optional[int] = None,
        validation_batch_size: Optional[int] = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        """Trains the model, in place: as `keras.Model.fit`, with an update in place of a step.

        "loss" is the offspring's mean, and so are the compiled metrics: of perturbed weights.

        A run continues exactly, with the same weights as one that was never stopped, from weights and
        optimizer (that is from a saved model) if its data does: arrays do; a dataset must begin at
        batch `optimizer.iterations * batches_per_update`.

        Args:
          x: arrays (one, or a list, tuple or dict of them), or a `tf.data.Dataset` of (x, y) or
            (x, y, sample_weight), which is repeated. Unless `minibatch="shared"`, its batches must all have
            one static shape where offspring are evaluated together. None: no data, with an `objective` only.
            On several replicas each has the whole of it, and reads its own offspring's batches; so a
            dataset must give the same ones each time it is iterated, and in every process.
          y, sample_weight, batch_size, shuffle: of arrays.
          epochs, verbose, callbacks, initial_epoch: as in `keras.Model.fit`.
          steps_per_epoch: updates in an epoch; may be a fraction, such as 6.25 or `Fraction(19, 3)`,
            as long as it is at least 1: epoch e then ends after floor(e * steps_per_epoch) updates. None: the
            data's batches divided by those of an update, so that an epoch is an epoch of images.
          validation_data, validation_steps, validation_batch_size, validation_freq: as in `keras.Model.fit`.

        Returns:
          The history.

        Raises:
          TypeError, ValueError: if an argument has a wrong type or a wrong value.
        """
        epochs = arguments.integer("epochs", epochs, 0)
        initial_epoch = arguments.integer("initial_epoch", initial_epoch, 0)
        validation_freq = arguments.integer("validation_freq", validation_freq, 1)
        arguments.boolean("shuffle", shuffle)
        if x is None and self._objective is None:
            raise ValueError("x=None is allowed with an objective only.")
        if self._objective is None and not keras_api.is_compiled(self.model):
            raise ValueError(f"model={self.model.name!r} is not compiled: call its `compile` with a loss.")
        model = self.model
        keras_api.attach_optimizer(model, self.optimizer)
        model.stop_training = False
        self._keep = None
        data = None
        if x is not None:
            data = stream(x, y, sample_weight, batch_size, shuffle, self.seed)
        updates = self._updates_per_epoch(steps_per_epoch, None if data is None else data.per_epoch)
        watch = WarnOfGrowth(
            f"lower learning_rate, or raise population={self._population_size} for less noise; "
            'with fitness="raw" the rate is far below SGD\'s'
        )
        callback_list = keras.callbacks.CallbackList(
            [*tf.nest.flatten([] if callbacks is None else callbacks), watch],
            add_history=True,
            add_progbar=verbose != 0,
            model=model,
            verbose=1 if verbose == "auto" else verbose,
            epochs=epochs,
            steps=math.ceil(updates),
            trainer=self,  # for callbacks that need more than the model: `ReplayLog`
        )
        callback_list.on_train_begin()
        self._build_once()
        first_epoch = keras_api.restored_epoch(model, initial_epoch)
        batches = None
        if data is not None:
            start = int(keras_api.updates_of(self.optimizer)) * self.batches_per_update
            batches = iterator(self._strategy, data, start, self._population.shared, self._group)
            if self._replicas > 1:
                keras_api.build_metrics(model, next(iter(data.dataset_from(start))))
        logs: Dict[str, float] = {}
        try:
            for epoch in range(first_epoch, epochs):
                callback_list.on_epoch_begin(epoch)
                steps = math.floor((epoch + 1) * updates) - math.floor(epoch * updates)
                logs = self._train_epoch(batches, steps, callback_list)
                if validation_data is not None and (epoch + 1) % validation_freq == 0:
                    validated = validation_data, validation_batch_size, validation_steps, callback_list
                    logs.update(self._validate(*validated))
                callback_list.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
        finally:
            if self._pool is not None:
                self._pool.close()
        keras_api.finalize(model)
        callback_list.on_train_end(logs)
        return model.history

    def evaluate(self, *arguments, **keyword_arguments):
        """`model.evaluate`."""
        return self.model.evaluate(*arguments, **keyword_arguments)

    def _train_epoch(self, batches, steps: int, callbacks) -> Dict[str, float]:
        """`steps` updates; returns the means over their offspring."""
        self.model.reset_metrics()
        logs: Dict[str, float] = {}
        total = 0.0
        for step in range(steps):
            callbacks.on_train_batch_begin(step)
            total += float(self._strategy.experimental_local_results(self._function(batches))[0])
            logs = {**self._metrics(), "loss": total / (step + 1)}
            callbacks.on_train_batch_end(step, logs)
            if self.model.stop_training:
                break
        return dict(logs)

    def _updates_per_epoch(
        self, steps_per_epoch: Optional[Union[float, Fraction]], batches: Optional[int]
    ) -> Fraction:
        if steps_per_epoch is not None:
            updates = steps_per_epoch
            if not isinstance(updates, Fraction):
                updates = Fraction(arguments.number("steps_per_epoch", updates))
            if updates < 1:
                raise ValueError(f"steps_per_epoch={steps_per_epoch!r} must be a number of at least 1.")
            return updates
        if batches is None:
            raise ValueError("steps_per_epoch=None needs data of a known number of batches; give it.")
        if batches < self.batches_per_update:
            raise ValueError(
                f"x has {batches} batches, fewer than an update's {self.batches_per_update}. Give "
                "steps_per_epoch: an epoch then takes more images than there are."
            )
        return Fraction(batches, self.batches_per_update)

    def _validate(self, data, batch_size, steps, callbacks) -> Dict[str, float]:
        x, y, sample_weight = data, None, None
        if isinstance(data, (tuple, list)):
            x, y, sample_weight = (*data, None, None)[:3]
        logs = self.model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=batch_size,
            steps=steps,
            callbacks=callbacks,
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": value for name, value in logs.items()}

    def _metrics(self) -> Dict[str, float]:
        results = keras_api.metrics_results(self.model)
        # By `numpy`: np.asarray takes no tensor of a bfloat16 scalar.
        arrays = {name: np.asarray(tf.convert_to_tensor(value).numpy()) for name, value in results.items()}
        return {name: array.astype(np.float64).tolist() for name, array in arrays.items()}

    def _build_once(self) -> None:
        """Programs, traced anew if the model was compiled anew, or the updates are recorded by another."""
        made_for = keras_api.compilation(self.model), self._keep
        if self._made_for is not None and all(a is b for a, b in zip(self._made_for, made_for)):
            return
        self._made_for = made_for
        in_place = InPlace(self._population) if self.in_place else None
        self._offspring: Union[InPlace, ByObjective, Chunked]
        if self._objective is not None:
            self._offspring = ByObjective(self._population, self._objective, in_place, self._pool)
        else:
            self._offspring = in_place or Chunked(self._population, self._own, self._rows, self._group)
        self._apply = Update(self._population, self.optimizer, in_place).apply
        if self._objective is not None:
            self._function = self._update  # calls Python
            # Eagerly it would round otherwise than where it is replayed.
            self._apply = tf.function(self._apply, autograph=False)
            return
        whole = device.of(self._strategy).compiles_whole
        update = tf.function(self._update, jit_compile=True, autograph=False) if whole else self._update

        def run(batches):
            # Around all replicas, which are threads: every one makes the same update by itself.
            with keras_api.without_reduction(self.optimizer):
                return self._strategy.run(update, (batches,))

        self._function = run if whole else tf.function(run, autograph=False)

    def _update(self, batches) -> tf.Tensor:
        """One update of the weights; returns the mean loss of all offspring."""
        update = tf.cast(keras_api.updates_of(self.optimizer), tf.int32)
        replicas = current_replicas()
        losses = losses_of_all(self._offspring.losses(batches, update, replicas), replicas)
        self.bytes_per_update = replicas.sent
        fitness = -tf.reshape(losses, [-1])
        weights = tf.convert_to_tensor(self._shaping(fitness))
        if weights.shape != fitness.shape:
            raise ValueError(f"fitness returns shape {weights.shape}; allowed: {fitness.shape}.")
        signs = tf.constant(self._population.signs)
        weights = tf.reduce_sum(tf.reshape(weights, losses.shape) * signs, axis=1)
        weights *= self._scale / len(self._population.signs)
        if self._keep is not None:
            self._keep(weights, update)
        self._apply(weights, update)
        return tf.reduce_mean(losses)


def _resolve_optimizer(learning_rate, optimizer):
    if (learning_rate is None) == (optimizer is None):
        raise ValueError(
            f"learning_rate={learning_rate!r}, optimizer={optimizer!r}: exactly one of them must be given."
        )
    if optimizer is None:
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = arguments.positive("learning_rate", learning_rate)
        return keras.optimizers.SGD(learning_rate)
    optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        raise ValueError(
            "optimizer is a LossScaleOptimizer: there are no gradients to scale; give what it wraps."
        )
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise ValueError("optimizer accumulates gradients: a larger population does that.")
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"optimizer={optimizer!r} must be a keras.optimizers.Optimizer of Keras {keras.__version__}."
        )
    return optimizer
