"""Pipeline stages: who is in which, and how many IPUs they take. They compute what one IPU computes."""

import contextlib
from unittest import mock

import tensorflow as tf
from keras.engine import node as nodes

from random_bases.keras_api import keras
from tests.poplar import tracing
from tests.poplar.contract import arguments
from tests.poplar.strategy import IPUStrategyV1

_NAMES = "keras.ipu.extensions.pipeline_stage_assignment."


class PipelineStage:
    """Layers made, or called, inside are in that stage; calls count more."""

    active = None

    def __init__(self, *given, **named):
        (self._stage,), _ = arguments(_NAMES + "PipelineStage", given, named)

    def __enter__(self):
        if self._stage < 0:
            raise ValueError(f"{self._stage} is no pipeline stage.")
        if not isinstance(tf.distribute.get_strategy(), IPUStrategyV1):
            raise RuntimeError("PipelineStage is for the scope of an IPUStrategy.")
        if PipelineStage.active is not None:
            raise RuntimeError("Pipeline stages must not be nested.")
        PipelineStage.active = self._stage
        return self

    def __exit__(self, *exception):
        PipelineStage.active = None


class _Assignment:
    """A call's, or in a Sequential model a layer's; its stage may be set."""

    is_nested_model = False

    def __init__(self, *given, **named):
        values = _arguments(self, given, named)
        self._layer, self._node_index = values["layer"], values.get("node_index")
        self.pipeline_stage = values.get("pipeline_stage")

    @property
    def layer(self):
        return self._layer


class ModelLayerPipelineStageAssignment(_Assignment):
    @property
    def node_index(self):
        return self._node_index

    @property
    def inbound_layers(self):
        return [node.layer for node in self._layer._inbound_nodes[self._node_index].parent_nodes]


class FunctionalLayerPipelineStageAssignment(ModelLayerPipelineStageAssignment):
    pass


class SequentialLayerPipelineStageAssignment(_Assignment):
    pass


class _NestedAssignment:
    """Of a model inside a model: the stages of its own layers."""

    is_nested_model = True

    def __init__(self, *given, **named):
        values = _arguments(self, given, named)
        self._nested_model, self._node_index = values["nested_model"], values.get("node_index")
        self._pipeline_stage_assignments = values["pipeline_stage_assignments"]

    @property
    def nested_model(self):
        return self._nested_model

    @property
    def pipeline_stage_assignments(self):
        return list(self._pipeline_stage_assignments)


class NestedModelPipelineStageAssignment(_NestedAssignment):
    @property
    def node_index(self):
        return self._node_index


class FunctionalNestedModelPipelineStageAssignment(NestedModelPipelineStageAssignment):
    pass


class SequentialNestedModelPipelineStageAssignment(_NestedAssignment):
    pass


def _arguments(assignment, given, named):
    from tests.poplar.contract import signature

    name = _NAMES + type(assignment).__name__
    given, named = arguments(name, given, named)
    return signature(name).bind(*given, **named).arguments


IMPLEMENTED = {
    cls.__name__: cls
    for cls in (
        PipelineStage,
        ModelLayerPipelineStageAssignment,
        FunctionalLayerPipelineStageAssignment,
        SequentialLayerPipelineStageAssignment,
        NestedModelPipelineStageAssignment,
        FunctionalNestedModelPipelineStageAssignment,
        SequentialNestedModelPipelineStageAssignment,
    )
}


@contextlib.contextmanager
def recorded():
    """While the double is there: layers and their calls remember the stage that they were made in."""
    make_layer, make_node = keras.layers.Layer.__init__, nodes.Node.__init__

    def layer(self, *given, **named):
        make_layer(self, *given, **named)
        _remember(self)

    def node(self, *given, **named):
        make_node(self, *given, **named)
        _remember(self)

    with mock.patch.object(keras.layers.Layer, "__init__", layer):
        with mock.patch.object(nodes.Node, "__init__", node):
            yield


def _remember(made):
    if PipelineStage.active is not None:
        object.__setattr__(made, "_double_stage", PipelineStage.active)


def _classes(model):
    """(of layers, of nested models): the assignments of a model."""
    if isinstance(model, keras.Sequential):
        return SequentialLayerPipelineStageAssignment, SequentialNestedModelPipelineStageAssignment
    if tracing.is_subclassed(model):
        return ModelLayerPipelineStageAssignment, NestedModelPipelineStageAssignment
    return FunctionalLayerPipelineStageAssignment, FunctionalNestedModelPipelineStageAssignment


def _on_ipus(layer):
    return hasattr(type(layer), "__original_class__")


def get_pipeline_stage_assignment(self):
    if not tracing.is_traced(self):
        raise RuntimeError(f"{self.name!r} has not been built yet, so nobody knows its pipeline stages.")
    if "_double_stages" in vars(self):
        return list(self._double_stages)
    of_layer, of_model = _classes(self)
    if isinstance(self, keras.Sequential):
        return [
            of_model(layer, layer.get_pipeline_stage_assignment()) if _on_ipus(layer) else of_layer(layer)
            for layer in self.layers
        ]
    found, missing = [], []
    for node in tracing.calls(self):
        layer, index = node.layer, node.layer._inbound_nodes.index(node)
        if _on_ipus(layer):
            found.append(of_model(layer, index, layer.get_pipeline_stage_assignment()))
            continue
        stage = getattr(node, "_double_stage", getattr(layer, "_double_stage", None))
        found.append(of_layer(layer, index, stage))
        missing += [layer.name] if stage is None else []
    if missing and any(stage is not None for stage in _flat(found)):
        raise ValueError(f"Every layer must be in a stage, or none; {missing} are in none.")
    return found


def set_pipeline_stage_assignment(self, pipeline_stage_assignment):
    given = pipeline_stage_assignment
    if not tracing.is_traced(self):
        raise RuntimeError(f"{self.name!r} has not been built yet, so it has no layers to assign.")
    if not isinstance(given, list):
        raise ValueError(f"pipeline_stage_assignment={given!r} must be a list.")
    sequential = isinstance(self, keras.Sequential)
    expected = list(self.layers) if sequential else [node.layer for node in tracing.calls(self)]
    if len(given) != len(expected):
        raise ValueError(f"{len(given)} assignments for {len(expected)} layers.")
    of_layer, of_model = _classes(self)
    if sequential:
        given[:] = [of_layer(self.layers[i], s) if isinstance(s, int) else s for i, s in enumerate(given)]
    for assignment, layer in zip(given, expected):
        cls = of_model if _on_ipus(layer) else of_layer
        if not isinstance(assignment, cls):
            raise ValueError(f"{layer.name!r} needs a {cls.__name__}, not {assignment!r}.")
        if (assignment.nested_model if _on_ipus(layer) else assignment.layer) is not layer:
            raise ValueError(
                f"The assignments are not in the order of the layers: {layer.name!r} comes here."
            )
    _check(_flat(given))
    object.__setattr__(self, "_double_stages", list(given))


def reset_pipeline_stage_assignment(self):
    vars(self).pop("_double_stages", None)


def _flat(assignments):
    for assignment in assignments:
        if assignment.is_nested_model:
            yield from _flat(assignment.pipeline_stage_assignments)
        else:
            yield assignment.pipeline_stage


def _check(stages):
    stages = list(stages)
    if any(stage is None for stage in stages):
        raise ValueError(f"Every layer must be in a stage: {stages}.")
    if sorted(set(stages)) != list(range(max(stages) + 1)):
        raise ValueError(f"Stages must be 0, 1, ...: {stages}.")


def _is_pipelined(model):
    """Whether a model's own layers were assigned stages: those of models in it alone do not count."""
    if "_double_stages" in vars(model):
        return True
    return not isinstance(model, keras.Sequential) and any(
        hasattr(each, "_double_stage") for node in tracing.calls(model) for each in (node, node.layer)
    )


def stages(model):
    """How many stages a model that was built has, 0 if none."""
    if not _is_pipelined(model):
        return 0
    found = list(_flat(get_pipeline_stage_assignment(model)))
    _check(found)
    return max(found) + 1


def ipus(model, device_mapping=None):
    """How many IPUs a replica takes, one for each stage or as they are mapped: the next power of two."""
    number = stages(model)
    if number and device_mapping:
        number = max(device_mapping) + 1
    return 1 << (max(number, 1) - 1).bit_length()
