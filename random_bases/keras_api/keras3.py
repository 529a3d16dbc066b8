"""What `SubspaceModel` needs of Keras 3."""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import tensorflow as tf

from random_bases.keras_api.common import undivided
from random_bases.keras_api.generation import keras
from random_bases.keras_api.nested_functions import (
    count_custom_gradients,
    refuse_custom_gradient,
    refuse_inner_function,
)


class Substitution(keras.StatelessScope):
    """A scope in which variables read as given tensors; all others are read and written as outside.

    That is `Layer.stateless_call`, except that what is written inside (moving averages, seeds, metrics)
    is written at once: a tensor that is handed out later could not leave a loop or a branch.

    Args:
      variables, values: what reads as what; of the same shapes and dtypes.
      differentiated: whether gradients with respect to `values` may be taken of what is computed inside.
    """

    def __init__(
        self, variables: Sequence[keras.Variable], values: Sequence[tf.Tensor], differentiated: bool = True
    ):
        super().__init__(state_mapping=list(zip(variables, values)), collect_losses=True)
        self._pairs = list(zip(variables, values))
        self._outside = count_custom_gradients() if differentiated else None
        # What Variable.assign does outside of such a scope, and the scope around this one: both private.
        assert hasattr(keras.Variable, "_direct_assign")
        self.original_scope: Optional[keras.StatelessScope] = None

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is not None:
            refuse_inner_function(variable.path, value)
            refuse_custom_gradient(variable.path, self._outside)
        elif self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        variable, value = update
        if super().get_current_value(variable) is not None:
            raise ValueError(
                f"The model assigns to its weight {variable.path!r}, which SubspaceModel trains."
            )
        if self.original_scope is not None:
            self.original_scope.add_update(update)
        else:
            variable._direct_assign(value)

    @contextlib.contextmanager
    def reading(self, variable: keras.Variable, value: tf.Tensor) -> Iterator[None]:
        """A scope, inside this one, in which one of the variables reads as another tensor."""
        before = self.state_mapping[id(variable)]
        self.state_mapping[id(variable)] = value
        try:
            yield
        finally:
            self.state_mapping[id(variable)] = before

    def call(self, model: keras.Model, inputs, **arguments) -> Tuple[Any, List[tf.Tensor]]:
        """What `model`, called inside, returns; the losses it has added and its regularisers."""
        outputs = model(inputs, **arguments)
        # Not `model.losses`: it tells layers' losses apart by ids of tensors that may be used again.
        regularised = [v.regularizer(value) for v, value in self._pairs if v.regularizer is not None]
        return outputs, [*self.losses, *regularised]


def path_of(variable: keras.Variable) -> str:
    """A variable's path, "dense/kernel"."""
    return variable.path


def value_of(variable: keras.Variable) -> tf.Tensor:
    """A variable's value in its own dtype; to be called where nothing is autocast."""
    return tf.convert_to_tensor(variable.value)


def weights_of(model: keras.Model) -> List[keras.Variable]:
    """The variables that files of weights hold: all but the states of seed generators."""
    return model.weights


def variables_of(model: keras.Model) -> List[keras.Variable]:
    """All that a model consists of: weights, moving statistics and the states of seed generators."""
    return model.variables


def parameters_of(model: keras.Model) -> List[keras.Variable]:
    """The weights that are trained or frozen; all others are state."""
    return [variable for layer in layers_of(model) for variable in layer._trainable_variables]


def quantized_of(model: keras.Model) -> List[keras.Variable]:
    """All that quantised layers hold beside these: quantised kernels, scales."""
    # Any layer may have a quantising policy; those that do something about it say how they are built.
    quantized = [
        layer
        for layer in layers_of(model)
        if layer.quantization_mode is not None
        and type(layer).quantized_build is not keras.layers.Layer.quantized_build
    ]
    return [variable for layer in quantized for variable in layer._non_trainable_variables]


def layers_of(model: keras.Model) -> List[keras.layers.Layer]:
    """All layers, also those inside layers; outer ones first."""
    return model._flatten_layers()


def loop_of_cell(layer: keras.layers.Layer) -> Optional[Callable]:
    """A replacement for a recurrent layer's `call` that calls its cell at each step; None: its own does."""
    del layer  # LSTM and GRU call their cells themselves, except where cuDNN computes them
    return None


def dropped_inputs(cell: keras.layers.Layer, x: tf.Tensor, training: Any, gates: int) -> tf.Tensor:
    """What dropout leaves of the inputs of a recurrent layer's cell; Keras 2 makes as many masks as gates."""
    # Cells with several gates leave their inputs as they are at rate 1, where a SimpleRNNCell has none left.
    none = not training or not cell.dropout or (gates > 1 and cell.dropout == 1)
    return x if none else x * cell.get_dropout_mask(x)


def serialize(model: keras.Model) -> Dict[str, Any]:
    """The architecture of a model, from which `deserialize` rebuilds it."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    return config


def deserialize(config: Dict[str, Any], custom_objects: Optional[Dict[str, Any]] = None) -> keras.Model:
    """A new, built model of an architecture."""
    return keras.saving.deserialize_keras_object(config, custom_objects)


def clone(model: keras.Model) -> keras.Model:
    """A model of the same architecture, with weights of its own."""
    # Found again although they may not be registered.
    classes = {type(layer).__name__: type(layer) for layer in layers_of(model)}
    config = serialize(model)
    return keras.saving.deserialize_keras_object(config, classes, safe_mode=False)


def export_options(exported: keras.Model, model: keras.Model) -> Dict[str, Any]:
    """Arguments of `exported.export` that tell its inputs: Keras knows those of Functional models only."""
    del exported
    if isinstance(model, keras.Sequential):
        return {"input_signature": model.inputs}
    if hasattr(model, "input_shape"):  # Functional
        return {"input_signature": [model.input]}
    # What it was built with: private, where Keras itself looks when it exports a subclass.
    shapes = model._build_shapes_dict
    return (
        {"input_signature": [_specs(shape, model.input_dtype) for shape in shapes.values()]} if shapes else {}
    )


def _specs(shape, dtype: str):
    """Of inputs of a shape, or of lists and dicts of shapes; batches may be of any size."""
    if isinstance(shape, dict):
        return {key: _specs(each, dtype) for key, each in shape.items()}
    if any(isinstance(each, (dict, list, tuple)) for each in shape):
        return [_specs(each, dtype) for each in shape]
    return keras.InputSpec(shape=(None, *shape[1:]), dtype=dtype)


def targets(batch: Sequence[Any], outputs) -> Tuple[Any, Any, Any]:
    """(y, outputs, sample_weight) of a batch (x, y, sample_weight) or less."""
    y, sample_weight = (*batch[1:], None, None)[:2]
    return y, outputs, sample_weight


def is_compiled(model: keras.Model) -> bool:
    """Whether `model.compile` was called."""
    return model.compiled


def compiled_loss(model: keras.Model, batch: Sequence[Any], outputs) -> tf.Tensor:
    """The loss that `model` was compiled with, of (x, y, sample_weight) or less; without added losses."""
    loss = model._compile_loss(*targets(batch, outputs)) if model._compile_loss is not None else None
    if loss is None:
        return tf.zeros([])
    return undivided(
        tf.cast(loss, tf.float32), [each.loss.reduction for each in model._compile_loss._flat_losses]
    )


def build_metrics(model: keras.Model, batch: Sequence[Any]) -> None:
    """Makes the variables of the metrics that `model` was compiled with, in its strategy's scope.

    As Keras does before it traces a step of several replicas, in which they cannot be made.

    Args:
      model: a compiled model.
      batch: one of (x, y, sample_weight), or less.
    """
    assert hasattr(model, "_symbolic_build")  # private
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=tuple(batch))


def update_metrics(model: keras.Model, batch: Sequence[Any], outputs) -> None:
    """Adds a batch (x, y, sample_weight), or less, to the metrics that `model` was compiled with."""
    y, outputs, sample_weight = targets(batch, outputs)
    model.compute_metrics(None, y, outputs, sample_weight)


def metrics_results(model: keras.Model) -> Dict[str, tf.Tensor]:
    """The values of the metrics."""
    return model.get_metrics_result()


def compilation(model: keras.Model):
    """An object that is another one after each `model.compile`."""
    return model._compile_loss


def restored_epoch(model: keras.Model, initial_epoch: int) -> int:
    """The epoch to start at: what `BackupAndRestore` has restored, or `initial_epoch`."""
    return model._initial_epoch or initial_epoch


def finalize(model: keras.Model) -> None:
    """What an optimizer does to the weights at the end of training."""
    model.optimizer.finalize_variable_values(model.trainable_variables)


def attach_optimizer(model: keras.Model, optimizer) -> None:
    """Makes `optimizer` the model's, for callbacks and for saving."""
    model.optimizer = optimizer
    if model.compiled:
        model._compile_config.config["optimizer"] = optimizer


def tf_variable_of(variable: keras.Variable) -> tf.Variable:
    """The TensorFlow variable of a variable."""
    return variable._value
