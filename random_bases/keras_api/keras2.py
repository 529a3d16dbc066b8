"""What `SubspaceModel` needs of Keras 2: tf-keras and Keras 2.6."""

import contextlib
import copy
import functools
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import tensorflow as tf

from random_bases.keras_api.common import undivided
from random_bases.keras_api.generation import GENERATION, keras
from random_bases.keras_api.nested_functions import (
    count_custom_gradients,
    refuse_custom_gradient,
    refuse_inner_function,
)

# Attributes of a model; most of them hold what cannot be copied.
_LEFT = (
    "optimizer",
    "loss",
    "compiled_loss",
    "compiled_metrics",
    "history",
    "train_function",
    "test_function",
    "predict_function",
)


class Substitution:
    """A scope in which variables read as given tensors.

    Keras 2 has no such scope, and the variables are held wherever layers hold them: attributes, lists,
    closures of regularisers. So the variables stay where they are, but their class changes: to a
    subclass of theirs whose methods that read return the tensor.

    Args:
      variables, values: what reads as what; of the same shapes and dtypes.
      differentiated: whether gradients with respect to `values` may be taken of what is computed inside.
    """

    def __init__(
        self, variables: Sequence[tf.Variable], values: Sequence[tf.Tensor], differentiated: bool = True
    ):
        self._pairs = [(_component(variable), value) for variable, value in zip(variables, values)]
        self._restore: List[tuple] = []
        self._outside = count_custom_gradients() if differentiated else None

    def __enter__(self):
        for variable, value in self._pairs:
            self._restore.append((variable, type(variable), variable._handle))
            variable.__dict__["_substitute"] = value
            variable.__dict__["_outside"] = self._outside
            # TensorFlow's fast path reads in C++, by this handle, if there is one.
            variable.__dict__["_handle"] = None
            variable.__class__ = _substituted(type(variable))
        return self

    def __exit__(self, *exception):
        for variable, cls, handle in self._restore:
            variable.__class__ = cls
            variable.__dict__["_handle"] = handle
            del variable.__dict__["_substitute"], variable.__dict__["_outside"]
        self._restore: List[tuple] = []

    @contextlib.contextmanager
    def reading(self, variable: tf.Variable, value: tf.Tensor) -> Iterator[None]:
        """A scope, inside this one, in which one of the variables reads as another tensor."""
        held = _component(variable).__dict__
        before, held["_substitute"] = held["_substitute"], value
        try:
            yield
        finally:
            held["_substitute"] = before

    def call(self, model: keras.Model, inputs, **arguments) -> Tuple[Any, List[tf.Tensor]]:
        """What `model`, called inside, returns; the losses it has added and its regularisers."""
        # While a SavedModel is written, a traced function stands for `call`: with theta0 in it.
        traced = vars(model).get("call")
        if not hasattr(traced, "_tf_decorator"):
            return model(inputs, **arguments), model.losses
        del model.__dict__["call"]
        try:
            return model(inputs, **arguments), model.losses
        finally:
            model.__dict__["call"] = traced


def _component(variable: tf.Variable) -> tf.Variable:
    """What is read in this replica: without the wrappers of mixed precision and of strategies."""
    if hasattr(variable, "_variable"):
        variable = variable._variable  # AutoCastVariable
    if hasattr(variable, "_get"):
        variable = variable._get()  # DistributedVariable
    return variable


@functools.lru_cache(maxsize=None)
def _substituted(cls: type) -> type:
    """A subclass of `cls`, a resource variable's, whose instances read as their `_substitute`."""
    # The hooks through which everything reads, private: make sure that they are still there.
    for name in ("value", "read_value", "sparse_read", "gather_nd", "_dense_var_to_tensor"):
        assert hasattr(cls, name), name

    def read(self):
        refuse_inner_function(self.name, self._substitute)
        refuse_custom_gradient(self.name, self._outside)
        return self._substitute

    def value(self, *unused):
        return read(self)

    def to_tensor(self, dtype=None, name=None, as_ref=False):
        if dtype is not None and not dtype.is_compatible_with(self.dtype):
            return NotImplemented  # as ResourceVariable does
        return read(self)

    def gather(self, indices, name=None):
        return tf.gather(read(self), indices, name=name)

    def gather_nd(self, indices, name=None):
        return tf.gather_nd(read(self), indices, name=name)

    def assign(self, *unused, **also_unused):
        raise ValueError(f"The model assigns to {self.name!r}, which is trained in a subspace.")

    return type(
        f"Substituted{cls.__name__}",
        (cls,),
        {
            # Asked where it is: that an operation may be placed there, too.
            "handle": property(lambda self: self._substitute),
            "value": value,
            "read_value": value,
            "_read_variable_op": value,
            "sparse_read": gather,
            "gather_nd": gather_nd,
            "_dense_var_to_tensor": to_tensor,
            "assign": assign,
            "assign_add": assign,
            "assign_sub": assign,
        },
    )


def path_of(variable: tf.Variable) -> str:
    """A variable's path, "dense/kernel"."""
    return variable.name.split(":")[0]


def value_of(variable: tf.Variable) -> tf.Tensor:
    """A variable's value in its own dtype, also where variables are cast as they are read."""
    return getattr(variable, "_variable", variable).read_value()


def weights_of(model: keras.Model) -> List[tf.Variable]:
    """The variables that files of weights hold: what layers learned by `adapt` has no fixed shape."""
    return [v for v in model.weights if isinstance(v, tf.Variable) and v.shape.is_fully_defined()]


def variables_of(model: keras.Model) -> List[tf.Variable]:
    """All that a model consists of: weights and moving statistics; but what `adapted_state` has."""
    return weights_of(model)


def parameters_of(model: keras.Model) -> List[tf.Variable]:
    """The weights that are trained or frozen; all others are state."""
    return [variable for variable in weights_of(model) if variable.trainable]


def quantized_of(model: keras.Model) -> List[tf.Variable]:
    """All that quantised layers hold beside these: Keras 2 has none."""
    del model
    return []


def layers_of(model: keras.Model) -> List[keras.layers.Layer]:
    """All layers, also those inside layers; outer ones first."""
    return list(model._flatten_layers())


def loop_of_cell(layer: keras.layers.Layer) -> Optional[Callable]:
    """A replacement for a recurrent layer's `call` that calls its cell at each step; None: its own does.

    LSTM and GRU have a function of their own for what cuDNN could do; without a GPU it is no faster.
    """
    kind = next((each for each in (keras.layers.LSTM, keras.layers.GRU) if isinstance(layer, each)), None)
    if kind is None or type(layer).call is not kind.call:
        return None
    return functools.partial(keras.layers.RNN.call, layer)


def dropped_inputs(cell: keras.layers.Layer, x: tf.Tensor, training: Any, gates: int) -> tf.Tensor:
    """What dropout leaves of the inputs of a recurrent layer's cell; Keras 2 makes as many masks as gates."""
    if not cell.dropout:
        return x
    masks = cell.get_dropout_mask_for_cell(x, training, count=gates)
    return x * (masks[0] if gates > 1 else masks)


def serialize(model: keras.Model) -> Dict[str, Any]:
    """The architecture of a model, from which `deserialize` rebuilds it."""
    config = keras.layers.serialize(model)
    config.pop("compile_config", None)
    if GENERATION == "keras2.6":
        # Keras 2.6 does not tell it in the configuration; private, and None where nobody knows.
        config["build_input_shape"] = _json_shape(model._build_input_shape)
    return config


def deserialize(config: Dict[str, Any], custom_objects: Optional[Dict[str, Any]] = None) -> keras.Model:
    """A new, built model of an architecture."""
    config = dict(config)
    input_shape = config.pop("build_input_shape", None)
    model = keras.layers.deserialize(config, custom_objects)
    if not model.built and input_shape is not None:
        model.build(input_shape)
        # As for a model that was called: else a copy of this one could not be built.
        model._build_input_shape = input_shape
    return model


def _json_shape(shape):
    """A shape, or lists and dicts of shapes, as JSON has them."""
    if isinstance(shape, dict):
        return {key: _json_shape(each) for key, each in shape.items()}
    if isinstance(shape, (list, tuple)) and any(
        isinstance(each, (list, tuple, tf.TensorShape)) for each in shape
    ):
        return [_json_shape(each) for each in shape]
    return None if shape is None else tf.TensorShape(shape).as_list()


def clone(model: keras.Model) -> keras.Model:
    """A model of the same architecture, with weights of its own."""
    try:
        config = serialize(model)
    except NotImplementedError:  # a subclass without get_config
        return _copied(model)
    # Found again although they may not be registered.
    return deserialize(config, {type(layer).__name__: _own_class(layer) for layer in layers_of(model)})


def _copied(model: keras.Model) -> keras.Model:
    """A copy of all that is in a model, but for what `compile` and `fit` leave there."""
    left = [
        vars(each).get(name) for each in layers_of(model) for name in _LEFT if isinstance(each, keras.Model)
    ]
    clone = copy.deepcopy(model, {id(each): None for each in left})
    for each in layers_of(clone):
        if isinstance(each, keras.Model) and each._is_compiled:
            for name in _LEFT:
                setattr(each, name, None)  # so that it is not tracked any more, either
            each._is_compiled = False
    return clone


def _own_class(layer: keras.layers.Layer) -> type:
    """A layer's class; of a model made for the IPU, whose class Keras there extends, the one it had."""
    return getattr(type(layer), "__original_class__", type(layer))


def export_options(exported: keras.Model, model: keras.Model) -> Dict[str, Any]:
    """Arguments of `exported.export`, whose inputs are those of `model`: none, but Keras is told of them."""
    if (
        exported.save_spec() is None and model.save_spec() is not None
    ):  # a model that was loaded, and not called
        exported._set_save_spec(model.save_spec()[0][0])
    return {}


def targets(batch: Sequence[Any], outputs) -> Tuple[Any, Any, Any]:
    """(y, outputs, sample_weight) of a batch (x, y, sample_weight) or less."""
    y, sample_weight = (*batch[1:], None, None)[:2]
    return y, outputs, sample_weight


def is_compiled(model: keras.Model) -> bool:
    """Whether `model.compile` was called."""
    return model._is_compiled


def compiled_loss(model: keras.Model, batch: Sequence[Any], outputs) -> tf.Tensor:
    """The loss that `model` was compiled with, of (x, y, sample_weight) or less; without added losses."""
    if model.compiled_loss is None or model.loss is None:
        return tf.zeros([])
    loss = tf.cast(model.compiled_loss(*targets(batch, outputs)), tf.float32)
    each = [loss for loss in tf.nest.flatten(model.compiled_loss._losses) if loss is not None]
    return undivided(loss, [loss.reduction for loss in each])


def build_metrics(model: keras.Model, batch: Sequence[Any]) -> None:
    """Nothing: Keras 2 makes the metrics' variables where they are first updated, in replicas, too."""
    del model, batch


def update_metrics(model: keras.Model, batch: Sequence[Any], outputs) -> None:
    """Adds a batch (x, y, sample_weight), or less, to the metrics that `model` was compiled with."""
    model.compiled_metrics.update_state(*targets(batch, outputs))


def metrics_results(model: keras.Model) -> Dict[str, tf.Tensor]:
    """The values of the metrics."""
    return {metric.name: metric.result() for metric in model.metrics}


def compilation(model: keras.Model):
    """An object that is another one after each `model.compile`."""
    return model.compiled_loss


def restored_epoch(model: keras.Model, initial_epoch: int) -> int:
    """The epoch to start at: what `BackupAndRestore` has restored, or `initial_epoch`."""
    if GENERATION == "keras2.6":
        return model._maybe_load_initial_epoch_from_ckpt(initial_epoch)
    return model._maybe_load_initial_counters_from_ckpt(None, initial_epoch)[0]


def finalize(model: keras.Model) -> None:
    """What an optimizer does to the weights at the end of training."""
    if GENERATION == "tf_keras":
        model.optimizer.finalize_variable_values(model.trainable_variables)


def attach_optimizer(model: keras.Model, optimizer) -> None:
    """Makes `optimizer` the model's, for callbacks and for saving."""
    model.optimizer = optimizer
    if GENERATION == "tf_keras" and model._is_compiled:
        model._compile_config.config["optimizer"] = optimizer


def tf_variable_of(variable: tf.Variable) -> tf.Variable:
    """The TensorFlow variable of a variable, without the wrapper of mixed precision."""
    return getattr(variable, "_variable", variable)
