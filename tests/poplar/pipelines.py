"""Pipeline stages: who is in which, and how many IPUs they take. They compute what one IPU computes."""

import contextlib
from typing import Any, NamedTuple, Optional
from unittest import mock

from random_bases.keras_api import keras
from tests.poplar.contract import arguments

_active = []


class PipelineStage:
    """Layers called inside are in that stage."""

    def __init__(self, *given, **named):
        (self._stage,), _ = arguments(
            "keras.ipu.extensions.pipeline_stage_assignment.PipelineStage", given, named
        )

    def __enter__(self):
        _active.append(self._stage)

    def __exit__(self, *exception):
        _active.pop()


class Assignment(NamedTuple):
    layer: Any
    pipeline_stage: Optional[int] = None


@contextlib.contextmanager
def recorded():
    """While the double is there: layers remember the stage they were called in."""
    call = keras.layers.Layer.__call__

    def recording(self, *given, **named):
        if _active:
            object.__setattr__(self, "_double_stage", _active[-1])
        return call(self, *given, **named)

    with mock.patch.object(keras.layers.Layer, "__call__", recording):
        with mock.patch.object(keras, "ipu", _Module, create=True):
            yield


class _Module:
    PipelineStage = PipelineStage
    SequentialLayerPipelineStageAssignment = Assignment


def get_pipeline_stage_assignment(self):
    layers = [layer for layer in self.layers if not isinstance(layer, keras.layers.InputLayer)]
    return [Assignment(layer, getattr(layer, "_double_stage", None)) for layer in layers]


def set_pipeline_stage_assignment(self, pipeline_stage_assignment):
    for layer, stage in pipeline_stage_assignment:
        object.__setattr__(layer, "_double_stage", stage)


def stages(model):
    """How many stages a model has, 0 if none."""
    found = [assignment.pipeline_stage for assignment in get_pipeline_stage_assignment(model)]
    if not any(stage is not None for stage in found):
        return 0
    if any(stage is None for stage in found):
        raise ValueError(f"Every layer must be in a stage, or none: {found}.")
    if sorted(set(found)) != list(range(max(found) + 1)):
        raise ValueError(f"Stages must be 0, 1, ...: {found}.")
    return max(found) + 1


def ipus(model):
    """How many IPUs a replica of a model takes: the next power of two."""
    return 1 << (max(stages(model), 1) - 1).bit_length()
