"""What Keras 2.6 on the IPU refuses in `fit`, or takes minutes to refuse, or does wrongly."""

from typing import Optional

import tensorflow as tf

from random_bases import ipu
from random_bases.keras_api import keras
from random_bases.models import SubspaceModel
from random_bases.optimizers import RandomBasesDescent

# What a batch may have; Keras there casts float64 to float32.
_TYPES = (tf.float64, tf.float32, tf.float16, tf.int32, tf.int64, tf.bool, tf.int8, tf.uint8)


def check_fit(
    model,
    dataset: tf.data.Dataset,
    steps_per_epoch: Optional[int] = None,
    steps_per_execution: int = 1,
    gradient_accumulation_steps: int = 1,
) -> None:
    """Refuses, before minutes of compiling, what `fit` of a model made in an IPU's scope cannot do.

    Args:
      model: a compiled Keras model.
      dataset: of batches of one replica, and with accumulation of one micro-batch: what `fit` gets.
      steps_per_epoch: batches of an epoch, over all replicas of this instance; None: the dataset's.
      steps_per_execution: as given to `compile`: batches that a replica takes without returning to Python.
      gradient_accumulation_steps: as given to `set_gradient_accumulation_options`, as
        `gradient_accumulation_steps_per_replica`.

    Raises:
      ValueError: naming what is not allowed.
    """
    strategy = model.distribute_strategy
    if not ipu.is_strategy(strategy):
        raise ValueError(f"model={model.name!r} was not made in the scope of an IPU's strategy.")
    count = ipu.replicas(strategy) // ipu.instances(strategy)[1]
    check_model(model, ipu.ipus_per_replica(strategy))
    check_accumulation(model)
    check_batches(dataset)
    if steps_per_epoch is None:
        steps_per_epoch = number_of_batches(dataset)
    check_steps(steps_per_epoch, steps_per_execution, gradient_accumulation_steps, count)


def check_model(model, ipus_per_replica: int) -> None:
    """Raises ValueError for a model in pipeline stages that cannot be, or one that is not but should be."""
    if not _is_pipelined(model):
        if ipus_per_replica > 1:
            raise ValueError(
                f"ipus_per_replica={ipus_per_replica} is for models in pipeline stages "
                "(keras.ipu.PipelineStage); allowed for others: 1."
            )
        return
    for part, kind in ((_unscaled(model.optimizer), RandomBasesDescent), (model, SubspaceModel)):
        if isinstance(part, kind):
            raise ValueError(
                f"{kind.__name__} cannot train a model in pipeline stages: it needs the gradients, or the "
                "weights, of all stages in one place. Allowed there: other optimizers, and "
                "random_bases.layers.RandomProjection inside a stage. On one IPU RandomBasesDescent works "
                "with gradient accumulation."
            )


def _unscaled(optimizer):
    """The optimizer inside of one that scales the loss."""
    scales = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
    return optimizer.inner_optimizer if scales else optimizer


def _is_pipelined(model) -> bool:
    if isinstance(model, SubspaceModel):
        model = model.model  # whose stages would be its own
    try:
        assignments = model.get_pipeline_stage_assignment()
    except RuntimeError:  # a subclassed model that was not built: nobody has assigned it stages
        return False
    return any(_has_stage(each) for each in assignments)


def _has_stage(assignment) -> bool:
    """Whether a layer has a pipeline stage, or a layer of a model in the model."""
    nested = getattr(assignment, "pipeline_stage_assignments", None)
    if nested is not None:
        return any(_has_stage(each) for each in nested)
    return assignment.pipeline_stage is not None


def check_accumulation(model) -> None:
    """Raises ValueError for gradients that are accumulated by what never calls `apply_gradients`."""
    # Private, and absent where Keras has no such option.
    v2 = getattr(model, "_use_v2_gradient_accumulation_optimizer", False)
    if v2 and isinstance(_unscaled(model.optimizer), RandomBasesDescent):
        raise ValueError(
            "set_gradient_accumulation_options(use_v2_gradient_accumulation_optimizer=True) takes the update "
            "of each variable from the optimizer, not apply_gradients, and RandomBasesDescent needs all "
            "gradients at once; allowed: False, the default."
        )


def check_batches(dataset: tf.data.Dataset) -> None:
    """Raises ValueError for batches of shapes that are not static, or of types that the IPU lacks."""
    for spec in tf.nest.flatten(dataset.element_spec):
        if not spec.shape.is_fully_defined():
            raise ValueError(
                f"dataset has batches of shape {spec.shape}; programs for the IPU need static shapes: use "
                "batch(..., drop_remainder=True), and sizes that are known."
            )
        if spec.dtype not in _TYPES:
            raise ValueError(
                f"dataset has {spec.dtype.name}, which the IPU does not; cast it, e.g. to float32."
            )


def number_of_batches(dataset: tf.data.Dataset) -> int:
    """How many batches a dataset has.

    Raises:
      ValueError: if that is not known, or infinite.
    """
    number = int(dataset.cardinality())
    if number < 0:
        raise ValueError("steps_per_epoch=None needs a dataset of known size; give it.")
    return number


def check_steps(steps: int, steps_per_execution: int, accumulation: int, replicas: int) -> None:
    """Raises ValueError unless an epoch's batches go evenly to replicas, executions and updates."""
    if steps % replicas:
        raise ValueError(
            f"steps_per_epoch={steps} must be divisible by the {replicas} replicas: the rest would be "
            "dropped."
        )
    steps //= replicas
    if steps_per_execution < 1 or steps % steps_per_execution:
        raise ValueError(
            f"steps_per_execution={steps_per_execution} must divide the {steps} steps that each of the "
            f"{replicas} replicas takes in an epoch."
        )
    if accumulation < 1 or steps_per_execution % accumulation:
        raise ValueError(
            f"gradient_accumulation_steps={accumulation} must divide "
            f"steps_per_execution={steps_per_execution}: an execution ends with an update."
        )
