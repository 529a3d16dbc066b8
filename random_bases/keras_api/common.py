"""What is done in one way or another, depending on the Keras at hand."""

import contextlib
import random
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
import tensorflow as tf

from random_bases.keras_api.generation import GENERATION, keras

# Of losses, by Keras's names, that are divided by the number of replicas.
_MEANS = ("auto", "mean", "mean_with_sample_weight", "sum_over_batch_size")


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and so Keras's initialisers (Keras 2.6 has no function for it).

    Args:
      seed: an int in [0, 2**32).
    """
    if GENERATION == "keras2.6":
        random.seed(seed)
        np.random.seed(seed)
        tf.random.set_seed(seed)
    else:
        keras.utils.set_random_seed(seed)


def register_serializable(cls):
    """Class decorator: let Keras rebuild `cls` from a saved configuration without `custom_objects`."""
    if GENERATION == "keras3":
        return keras.saving.register_keras_serializable(package="random_bases")(cls)
    return keras.utils.register_keras_serializable(package="random_bases")(cls)


def compile_model(model, jit_compile: bool, **arguments) -> None:
    """`model.compile`; Keras 2.6 has no `jit_compile` and runs the step as a graph.

    Random bases are compiled either way: see `random_bases.bases.basis.Basis`.
    """
    if GENERATION != "keras2.6":
        arguments["jit_compile"] = jit_compile
    model.compile(**arguments)


def build_optimizer(optimizer, variables) -> None:
    """Creates an optimizer's variables, so that a checkpoint can be restored into them."""
    if GENERATION == "keras2.6":
        optimizer._create_all_weights(variables)
    else:
        optimizer.build(variables)


def undivided(loss: tf.Tensor, reductions: Sequence[str]) -> tf.Tensor:
    """A compiled loss as it is on one replica: Keras divides means by the replicas, for their sum to be one.

    Args:
      loss: what Keras has computed.
      reductions: of the losses that it is the weighted sum of.

    Raises:
      ValueError: with several replicas, for one that is no mean, which Keras leaves as it is.
    """
    count = tf.distribute.get_strategy().num_replicas_in_sync
    others = sorted({str(each) for each in reductions} - set(_MEANS))
    if count > 1 and others:
        raise ValueError(f"loss has reduction={others[0]!r}; allowed on {count} replicas: {_MEANS}.")
    return loss if count == 1 else loss * float(count)


@contextlib.contextmanager
def without_reduction(optimizer) -> Iterator[None]:
    """A scope in which `optimizer.apply_gradients` adds no replicas' gradients up: they are equal.

    To be entered where all replicas are: they are threads that share the optimizer.
    """
    reduction = {
        "keras3": "_all_reduce_sum_gradients",
        "tf_keras": "aggregate_gradients",
        "keras2.6": "_aggregate_gradients",
    }[GENERATION]
    assert hasattr(optimizer, reduction)  # private
    held = vars(optimizer)  # past Keras's tracking
    before = held.get(reduction)
    held[reduction] = lambda gradients_and_variables: gradients_and_variables
    try:
        yield
    finally:
        del held[reduction]
        if before is not None:
            held[reduction] = before


def add_float32_weight(layer, **arguments):
    """`layer.add_weight` of a float32 weight that reads as float32 under every dtype policy."""
    name = "autocast" if GENERATION == "keras3" else "experimental_autocast"
    return layer.add_weight(dtype="float32", **{name: False}, **arguments)


def is_symbolic(inputs) -> bool:
    """Whether there are Keras tensors among inputs: of a graph of layers, of which nothing is computed."""
    return any(hasattr(each, "_keras_history") for each in tf.nest.flatten(inputs))


def strategy_of(model) -> tf.distribute.Strategy:
    """The strategy in whose scope a model was made."""
    return model.distribute_strategy


def fit_reduces_over_hosts() -> bool:
    """Whether `fit` can take the means of losses and metrics over several processes."""
    return GENERATION != "keras3"


def fit_loops_over_replicas() -> bool:
    """Whether `fit` runs several steps in one call, or compiled ones, where there are several replicas."""
    return GENERATION != "keras3"


def updates_of(optimizer) -> tf.Tensor:
    """How many updates an optimizer has made, int64 scalar; not what only accumulates gradients."""
    return tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)


def innermost(optimizer) -> Any:
    """The optimizer that an optimizer wraps, as one that scales losses does; itself if it wraps none."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return optimizer if inner is None else innermost(inner)


def slots_of(optimizer, variable) -> Dict[str, Any]:
    """The innermost optimizer's state of one trained variable, by Keras's names: "momentum", "velocity".

    Gradients that it accumulates are none.
    """
    optimizer = innermost(optimizer)
    if hasattr(optimizer, "get_slot_names"):  # Keras 2.6, and what tf-keras calls legacy
        return {name: optimizer.get_slot(variable, name) for name in optimizer.get_slot_names()}
    found = {}
    for slot in optimizer.variables:
        if GENERATION == "keras3":  # "adam/dense_kernel_momentum"
            before, reference, name = slot.path.partition("/" + variable.path.replace("/", "_") + "_")
        else:  # "Adam/m/dense/kernel:0"
            before, reference, _ = slot.name.partition("/" + variable.name.split(":")[0])
            name = before.rpartition("/")[2]
        if reference and name != "gradient_accumulator":
            found[name] = slot
    return found


def step_is_compiled(model) -> bool:
    """Whether XLA compiles a compiled model's training step as a whole."""
    if GENERATION == "keras3":
        return bool(model.jit_compile)
    return bool(getattr(model, "_jit_compile", False))  # Keras 2.6 has none


def supports_xla(model) -> bool:
    """Whether XLA can compile what `model` does: no strings, no tables. As Keras 3's jit_compile="auto"."""
    layers = list(model._flatten_layers())
    if GENERATION == "keras3":
        return all(layer.supports_jit for layer in layers)
    return not any(isinstance(layer, _tables()) for layer in layers)


def _tables() -> tuple:
    """Keras 2's layers of look-up tables and strings."""
    preprocessing = keras.layers.experimental.preprocessing if GENERATION == "keras2.6" else keras.layers
    names = ("StringLookup", "IntegerLookup", "TextVectorization", "Hashing", "HashedCrossing")
    found = (getattr(preprocessing, name, None) for name in names)
    return tuple(each for each in found if each is not None)


def steps_per_execution_of(model) -> int:
    """How many steps `fit` runs without returning to Python."""
    if GENERATION == "keras3":
        return int(model.steps_per_execution)
    return int(model._steps_per_execution.numpy())


def check_built(model, trainable: bool = False) -> None:
    """Makes sure that `model` has weights and, if `trainable`, some that train.

    Raises:
      TypeError: if it is no model of this Keras.
      ValueError: if it is not built; with `trainable`, if it has no trainable weights, or some that no
        gradient moves.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r} must be a keras.Model of Keras {keras.__version__}.")
    if not model.built:
        raise ValueError(f"model={model.name!r} is not built: call it on a batch, or its `build`, first.")
    if trainable and not model.trainable_variables:
        raise ValueError(f"model={model.name!r} has no trainable weights.")
    for variable in model.trainable_variables if trainable else []:
        if getattr(variable, "overwrite_with_gradient", False):
            raise ValueError(
                f"model={model.name!r} is quantised to float8: Keras sets its trainable {variable.path!r} by "
                "what is no gradient; allowed: RandomBasesDescent, which leaves it to Keras, or other dtypes."
            )
        if not tf.as_dtype(variable.dtype).is_floating:
            raise ValueError(
                f"model={model.name!r} has a trainable weight {variable.name!r} of dtype "
                f"{tf.as_dtype(variable.dtype).name}, which has no gradient; make it with trainable=False."
            )


def trained_of(variables: Sequence) -> List[Any]:
    """Those that gradients move: no integers, and not what Keras overwrites by its "gradient".

    The latter are the scales of float8 layers, and the history of these.
    """
    return [
        variable
        for variable in variables
        if not getattr(variable, "overwrite_with_gradient", False)
        and not tf.as_dtype(variable.dtype).is_integer
        and not tf.as_dtype(variable.dtype).is_bool
    ]


def describe(variables: Sequence) -> List[str]:
    """Variables' dtypes and shapes. Keras numbers their names by what else the process has built."""
    return [f"{tf.as_dtype(v.dtype).name}{list(v.shape)}".replace(" ", "") for v in variables]
