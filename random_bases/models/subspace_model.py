"""SubspaceModel: a Keras model of which only d coordinates train."""

from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Union

import tensorflow as tf

from random_bases import arguments, bases, device, keras_api, strategies
from random_bases.bases.basis import Basis
from random_bases.compartments import Allocation, Compartments
from random_bases.first_steps import WarnOfGrowth
from random_bases.keras_api import keras, register_serializable, strategy_of
from random_bases.keras_api.nested_functions import refuse_decorated_methods, users_classes
from random_bases.models import compression, tapping
from random_bases.models.parametrisation import Parametrisation
from random_bases.models.taps import Taps
from random_bases.subspace import Subspace

# What Keras's `fit`, `evaluate` and `predict` call of the model that they are called of.
_OF_TRAINING = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "compute_metrics",
    "make_train_function",
    "make_test_function",
    "make_predict_function",
)


OPTIMIZER_STATES = ("project", "keep", "reset")
# What Keras calls averages of gradients, among an optimizer's variables.
_FIRST_MOMENTS = ("momentum", "m", "average_gradient", "mg")


class Coordinates(keras.layers.Layer):
    """Holds the coordinates, float32 [d]: as a layer, which every format saves.

    Args:
      dimensions: d.
      counts: whether it counts updates of the coordinates, too, `made`.
    """

    def __init__(self, dimensions: int, counts: bool = False, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.vector = self.add_weight(
            name="coordinates", shape=(dimensions,), initializer="zeros", dtype="float32"
        )
        if counts:
            self.made = self.add_weight(
                name="updates", shape=(), initializer="zeros", dtype="int32", trainable=False
            )
        self.built = True

    def call(self, inputs):
        """Its inputs: where a model's layers are those that its `call` calls (see `SubspaceModel.call`)."""
        return inputs


@register_serializable
class SubspaceModel(keras.Model):
    """A Keras model that trains in d random directions of its weight space: theta = theta0 + P c.

    theta0 is the wrapped model's trainable weights, P's directions are drawn from `seed` whenever they
    are needed and never stored, and the coordinates c are the only trainable weights: so the optimizer
    has state of size d. Without redraws the weights never leave the subspace, whichever optimizer it is.
    As in Li et al. 2018 (arXiv:1804.08838), where the smallest d that still works is the intrinsic
    dimension of the task.

    With `redraw_every=k` the wrapped model's weights take P c in after each update, c is zero again, and
    after k updates the basis is drawn anew: with SGD and k = 1 it is `RandomBasesDescent` (Gressmann et
    al. 2020). `fit` does that; a training loop of your own calls `advance()` after each update. Weight
    decay and averages of the coordinates would mean nothing and are refused; regularisers see theta.

    With basis="kronecker" the gradient of a kernel's coordinates is computed in the layer's backward pass,
    (x A)^T (u B), and none of the kernel's shape: of Dense, EinsumDense (so attention), Conv1D to 3D, their
    transposes, Embedding, LSTM, GRU and SimpleRNN layers. On CPUs that takes less time than training the
    weights themselves, and of the layers' inputs only x A is kept. All other weights' gradients are computed
    and projected; where there is a GPU, so are those of LSTM and GRU, which cuDNN may compute.

    It is compiled, fitted, evaluated, saved and loaded like any Keras model. Non-trainable state (moving
    averages, seed generators) is the wrapped model's own and is updated in training; its trainable
    weights stay theta0. Regularisers see theta. What is frozen when it is wrapped stays as it is.

    Keras 3 and tf-keras save it as .keras, Keras 2 as a SavedModel (which leaves out Adam's moments, for
    any model), all save weights as .h5; whole models as .h5 are for Functional and Sequential ones only.

    Not supported: as a layer of another model; models that read their weights in a `tf.function` of
    their own, or in a function with a gradient of its own, as recomputed (rematerialised) parts are;
    models with a training step, loss or metrics in methods of their own (`train_step`, `compute_loss`,
    ...), of which `fit` would know nothing.

    Args:
      model: a built Keras model: Functional, Sequential or a subclass that was built or called.
      dimensions: d, the number of directions over all compartments.
      basis: a name in `random_bases.bases.names()`, or a `Basis` with size D (the number of trained
        parameters) and d directions.
      compartments: "network", "layer", "variable", an int (that many equal parts) or a list of sizes; by
        default "network", and "variable" with basis="kronecker", which allows no other.
      allocation: how `dimensions` is shared out: "even", "proportional" or a list; by default "even", and
        "proportional" with basis="kronecker".
      seed: of the directions, an int in [0, 2**64); None: one that Python's `random` draws. Attribute `seed`.
      name: of the model.
      redraw_every: after how many updates the basis is drawn anew; None: never.
      optimizer_state: what becomes of the optimizer's state, which is of the old coordinates, at a redraw.
        "project": momentum and first moments m become P'^T P m, their part in the new basis P', and second
        moments, whose scale coordinates share, are kept; "keep": all is kept; "reset": all is zero.

    Attributes:
      model: the wrapped model.
      coordinates: the variable c, float32 [d]; zeros at first.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.

    Example:
    >>> sub = rb.SubspaceModel(model, dimensions=750, basis="hadamard", seed=0)
    >>> sub.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> sub.fit(images, labels, epochs=10)
    >>> trained = sub.materialize()
    """

    def __init__(
        self,
        model: keras.Model,
        dimensions: int,
        basis: Union[str, Basis] = "normal",
        compartments: Optional[Compartments] = None,
        allocation: Optional[Allocation] = None,
        seed: Optional[int] = None,
        name: str = "subspace_model",
        redraw_every: Optional[int] = None,
        optimizer_state: str = "project",
    ):
        redraw_every = arguments.optional(arguments.integer, "redraw_every", redraw_every, 1)
        if redraw_every is not None:
            device.at_hand().refuse(f"redraw_every={redraw_every} of a SubspaceModel")
        arguments.one_of("optimizer_state", optimizer_state, OPTIMIZER_STATES)
        variables = _checked(model).trainable_variables
        linear = tapping.of(model, variables)
        matrices = tapping.matrices(linear, variables)
        parametrisation = self._parametrise(
            variables, dimensions, basis, compartments, allocation, seed, matrices
        )
        # The wrapped model casts its inputs and weights itself. Its policy makes `compile` scale losses.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        self._parametrisation = parametrisation
        self.model = model
        self.redraw_every = redraw_every
        self.optimizer_state = optimizer_state
        self._keep: Optional[Callable] = None
        tapped = redraw_every is not None or parametrisation.factored
        self._taps: Any = Taps(parametrisation, linear) if tapped else None
        self._coordinates = Coordinates(dimensions, redraw_every is not None, name="coordinates")
        if redraw_every is not None:
            # Of this model, not of the class: IPUs allow no class with a training step of its own, and a
            # model without redraws needs none.
            self.__dict__["train_step"] = self._train_step
        self._set_losses([])
        self.built = True

    @property
    def coordinates(self):
        return self._coordinates.vector

    @property
    def dimensions(self) -> int:
        """The number of coordinates, d."""
        return self._parametrisation.dimensions

    @property
    def seed(self) -> int:
        """The seed of the directions."""
        return self._parametrisation.seed

    @property
    def subspace(self) -> Subspace:
        """The directions, of which `seed` and `draw` give those in use."""
        return self._parametrisation.subspace

    @property
    def draw(self) -> tf.Tensor:
        """The number of the redraw, int32 scalar."""
        return self._draw()

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **options):
        """As Keras's, with a warning if the loss grows in the first steps."""
        watch = WarnOfGrowth(
            "lower the optimizer's learning_rate, which moves coordinates (for Adam 0.01 is a good one to "
            "begin with; with redraws n / d times SGD's own is the most)"
        )
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(watch)
        else:
            callbacks = [*tf.nest.flatten([] if callbacks is None else callbacks), watch]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **options)

    def call(self, inputs, training=None):
        del training  # the wrapped model finds it in the call's context
        if keras_api.is_symbolic(inputs):
            # Keras on the IPU draws the graph of a subclassed model before it trains it. The layers there
            # become the model's: these are all that it has.
            return self._coordinates(self.model(inputs))
        c = keras_api.value_of(self.coordinates)
        if self._taps is None:
            theta = self._parametrisation.theta(c)
            with keras_api.Substitution(self._parametrisation.variables, theta) as substitution:
                outputs, losses = substitution.call(self.model, inputs)
        else:
            outputs, losses, theta = self._call_tapped(inputs, c)
        self._set_losses([*losses, *self._penalties(theta)])
        return outputs

    def _call_tapped(self, inputs, c):
        if self.redraw_every is None:
            plain = self._parametrisation.theta(tf.stop_gradient(c))
        else:
            # Taken in after each update. Without XLA, which leaves out what checks, this stops loops that
            # do not.
            message = "The coordinates are not zero: call advance() of a SubspaceModel after each update."
            with tf.control_dependencies([tf.debugging.assert_equal(c, tf.zeros_like(c), message)]):
                c = tf.identity(c)
            plain = self._parametrisation.theta0()
        draw, parts = self._draw(), self._taps.split(c)
        theta = self._taps.attach(parts, plain, draw)
        with keras_api.Substitution(self._parametrisation.variables, theta) as substitution:
            with self._taps.rerouted(substitution, parts, plain, draw):
                outputs, losses = substitution.call(self.model, inputs)
        return outputs, losses, theta

    def _draw(self, updates=None) -> tf.Tensor:
        """The number of the redraw, by how many updates were made."""
        if self.redraw_every is None:
            return tf.constant(0)
        updates = keras_api.value_of(self._coordinates.made) if updates is None else updates
        return updates // self.redraw_every

    def _train_step(self, *arguments):
        self._check_optimizer()
        before = keras_api.updates_of(self.optimizer)
        logs = super().train_step(*arguments)
        self.advance(keras_api.updates_of(self.optimizer) - before)
        return logs

    def _check_optimizer(self) -> None:
        # Not in `compile`: Keras 3 does not compile loaded models whose class has one of its own.
        for name in ("weight_decay", "use_ema"):
            value = getattr(keras_api.innermost(self.optimizer), name, None)
            if value:
                raise ValueError(
                    f"optimizer has {name}={value!r}, which would be of coordinates that each update leaves "
                    f"at zero; allowed with redraw_every={self.redraw_every}: none."
                )

    def advance(self, updates=1) -> None:
        """After an update of the coordinates: the weights take P c in, and the basis is redrawn in its turn.

        `fit` calls it; so must a training loop of your own, after `optimizer.apply_gradients`.

        Args:
          updates: how many were made, 0 or 1: none where an optimizer accumulates gradients or skips a step.

        Raises:
          ValueError: if the model has no redraws.
        """
        if self.redraw_every is None:
            raise ValueError("advance() is for redraw_every=k; this SubspaceModel has redraw_every=None.")
        if self._keep is not None:
            made = keras_api.value_of(self._coordinates.made)
            self._keep(keras_api.value_of(self.coordinates), made)
        context = tf.distribute.get_replica_context()
        if context is None or context.strategy.num_replicas_in_sync == 1:
            self._advance(updates)
        else:
            context.merge_call(lambda strategy, updates: self._advance(_first(strategy, updates)), (updates,))

    def record(self, keep: Callable[[tf.Tensor, tf.Tensor], None]) -> None:
        """Has every step of a model with redraws call `keep(c, updates)`; updates are those made before."""
        object.__setattr__(self, "_keep", keep)

    @property
    def updates_made(self) -> int:
        """How many updates of the coordinates its weights have taken in; for a model with redraws."""
        return int(keras_api.value_of(self._coordinates.made))

    def take_in(self, c: tf.Tensor, updates: tf.Tensor) -> None:
        """The wrapped model's weights become theta0 + P c, with the basis after so many updates.

        Args:
          c: float32 [d].
          updates: int32 scalar.
        """
        self._taps.take_in(c, self._draw(updates))

    def _advance(self, updates) -> None:
        made = keras_api.value_of(self._coordinates.made)
        now = made + tf.cast(updates, tf.int32)
        draw, new = self._draw(made), self._draw(now)
        c = keras_api.value_of(self.coordinates)
        with tf.control_dependencies([] if tf.executing_eagerly() else [c]):
            self.take_in(c, made)
            self._carry_optimizer_over(draw, new)
            keras_api.tf_variable_of(self.coordinates).assign(tf.zeros_like(c))
            keras_api.tf_variable_of(self._coordinates.made).assign(now)

    def _carry_optimizer_over(self, draw, new) -> None:
        if self.optimizer_state == "keep" or getattr(self, "optimizer", None) is None:
            return
        for name, slot in keras_api.slots_of(self.optimizer, self.coordinates).items():
            if self.optimizer_state == "reset" or name in _FIRST_MOMENTS:
                old = tf.convert_to_tensor(slot)
                carried = partial(self._carried_over, old, draw, new)
                slot.assign(tf.cond(tf.equal(draw, new), partial(tf.identity, old), carried))

    def _carried_over(self, state: tf.Tensor, draw, new) -> tf.Tensor:
        if self.optimizer_state == "reset":
            return tf.zeros_like(state)
        return self._taps.carried_over(state, draw, new)

    # For subclasses.

    _parametrise = staticmethod(Parametrisation)

    def _penalties(self, theta: List[tf.Tensor]) -> List[tf.Tensor]:
        """Losses of the weights, beside those of the wrapped model."""
        del theta
        return []

    @property
    def losses(self) -> List[tf.Tensor]:
        """Losses that the wrapped model's layers added in the last call, and its regularisers of theta."""
        return list(self._losses_of_call)

    def _set_losses(self, losses: List[tf.Tensor]) -> None:
        # Past the tracking of attributes: these are tensors, which no checkpoint can hold.
        object.__setattr__(self, "_losses_of_call", losses)

    @property
    def output_names(self):
        """The wrapped model's, by which losses and metrics are given and logged."""
        return getattr(self.model, "output_names", None)

    @output_names.setter
    def output_names(self, names):
        """Keras sets those of the layers that it finds: they stay the wrapped model's."""

    @property
    def compute_dtype(self):
        # Of theta. The wrapped model has a compute dtype of its own, to which Keras 3 would else cast all
        # that is read in `call`.
        return self.variable_dtype

    @property
    def trainable_weights(self):
        return [self.coordinates] if self.trainable else []

    @property
    def trainable_variables(self):
        return self.trainable_weights

    @property
    def non_trainable_weights(self):
        return _without(self.trainable_weights, self.weights)

    @property
    def non_trainable_variables(self):
        return _without(self.trainable_weights, self.variables)

    def theta(self) -> List[tf.Tensor]:
        """What the wrapped model is called with: theta0 + P c, in the order of its trained variables."""
        # On the device that trained it, whose directions they are.
        return strategies.call(
            strategy_of(self),
            lambda: self._parametrisation.theta(keras_api.value_of(self.coordinates), self._draw()),
        )

    def materialize(self) -> keras.Model:
        """An ordinary, uncompiled model with the trained weights and the moving statistics: a clone.

        Raises:
          ValueError: if Keras cannot clone the wrapped model.
        """
        theta = self.theta()
        clone = clone_model(self.model)
        trained = {id(v): value for v, value in zip(self._parametrisation.variables, theta)}
        for variable, new in zip(keras_api.variables_of(self.model), keras_api.variables_of(clone)):
            new.assign(trained.get(id(variable), keras_api.value_of(variable)))
        keras_api.restore_adapted(clone)
        return clone

    def export(self, filepath, *arguments, **options):
        """As Keras exports any model (Keras 2.6: none); inputs are the wrapped model's by default."""
        options = {**keras_api.export_options(self, self.model), **options}
        return super().export(filepath, *arguments, **options)

    def export_compressed(self, path: str, bits: int = 32) -> int:
        """Writes what `random_bases.load_compressed` needs to rebuild the trained model, in a few bytes.

        That is the coordinates, float32; the seed, basis, compartments and allocation; state that training
        changes, as moving statistics; and the hash of theta0 and of all that is frozen or quantised, which
        is not in the file: a seeded initialisation, or a saved model, gives it again. Written to a temporary
        file beside `path` that then replaces it.

        Args:
          path: of the file; if it ends in ".safetensors" it is of that format, some hundred bytes longer.
          bits: 32: the coordinates as they are. 8 or 4: rounded to multiples of the largest one's size,
            divided by 127 or 7, in a Huffman code: the model that is loaded from the file has those.

        Returns:
          The file's size in bytes, which is also logged, beside that of the weights.

        Raises:
          ValueError: if the basis is of the "native" generator, whose samples depend on the device.
          OSError: if the file cannot be written.
        """
        if self.redraw_every is not None:
            raise ValueError(
                "export_compressed is not possible with redraw_every="
                f"{self.redraw_every}: the weights are no theta0 + P c of one basis. A ReplayLog "
                "rebuilds such a run from its coordinates."
            )
        return compression.save(path, self._parametrisation, self.model, self.coordinates.numpy(), bits)

    def get_config(self):
        return {
            "name": self.name,
            "model": keras_api.serialize(self.model),
            "trainable": [layer.trainable for layer in keras_api.layers_of(self.model)],
            **self._parametrisation.get_config(),
            "redraw_every": self.redraw_every,
            "optimizer_state": self.optimizer_state,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        model = keras_api.deserialize(config.pop("model"), custom_objects)
        _set_trainable(model, config.pop("trainable"))
        if isinstance(config["basis"], dict):
            config["basis"] = bases.deserialize(config["basis"])
        return cls(model, **config)


def _first(strategy: tf.distribute.Strategy, value):
    """A value that is equal on all replicas, in cross-replica context."""
    return strategy.experimental_local_results(value)[0]


def clone_model(model: keras.Model) -> keras.Model:
    """A model of the same architecture, with weights of its own and the same layers frozen and adapted.

    Raises:
      ValueError: if it has no configuration, or the clone's weights differ in number or shape.
    """
    try:
        clone = keras_api.clone(model)
    except Exception as error:  # there is no configuration, or one that __init__ does not take: users' code
        raise ValueError(
            f"model={model.name!r} cannot be cloned: implement its get_config, to return what its __init__ "
            "takes, and for Keras 2.6 from_config."
        ) from error
    _set_trainable(clone, [layer.trainable for layer in keras_api.layers_of(model)])
    expected, found = ([tuple(v.shape) for v in keras_api.variables_of(each)] for each in (model, clone))
    if expected != found:
        raise ValueError(
            f"model={model.name!r} cannot be cloned: its variables have shapes {expected}, those of what "
            f"its configuration gives have {found}. Implement its get_config and from_config."
        )
    keras_api.restore_adapted(clone, keras_api.adapted_state(model))
    return clone


def _set_trainable(model: keras.Model, trainable: Sequence[bool]) -> None:
    """Freezes layers: subclassed models do not tell in their configuration which are."""
    for layer, each in zip(keras_api.layers_of(model), trainable):  # outer layers first: they set inner ones
        if layer.trainable != each:
            layer.trainable = each


def _checked(model: keras.Model) -> keras.Model:
    """`model`, if it can be trained in a subspace."""
    keras_api.check_built(model, trainable=True)
    for variable in model.trainable_variables:
        if getattr(variable, "constraint", None) is not None:
            raise ValueError(
                f"model={model.name!r} has a constraint on {keras_api.path_of(variable)!r}, which "
                "theta0 + P c cannot keep; remove it."
            )
    _refuse_training_methods(model)
    for layer in keras_api.layers_of(model):
        refuse_decorated_methods(layer)
    if any(getattr(layer, "_remat_mode", None) is not None for layer in keras_api.layers_of(model)):
        raise ValueError(
            f"model={model.name!r} has layers made in a RematScope: they would be recomputed at theta0 "
            "for the gradient."
        )
    return model


def _refuse_training_methods(model: keras.Model) -> None:
    """Raises if `model` says itself how it is trained: `fit` calls the methods of the `SubspaceModel`."""
    for cls in users_classes(model):
        for name in _OF_TRAINING:
            if name in vars(cls) and hasattr(keras.Model, name):
                raise ValueError(
                    f"model={model.name!r}: {cls.__name__}.{name} would be ignored, as `fit` calls that of "
                    f"the SubspaceModel: override {name} in a subclass of SubspaceModel, or give `compile` "
                    "what it does; or train the model itself with RandomBasesDescent(..., "
                    "redraw_every=None), which keeps to a fixed basis, too."
                )


def _without(excluded: Sequence, variables: Sequence) -> list:
    ids = {id(variable) for variable in excluded}
    return [variable for variable in variables if id(variable) not in ids]
