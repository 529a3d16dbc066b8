"""The packages of the contract, `tensorflow.python.ipu`, `keras.ipu`, the addons and popdist, as modules.

A name is there if and only if the contract has it, and takes the contract's arguments. What the double
cannot do raises NotImplementedError.
"""

import functools
import types

from tests.poplar import addons, config, pipelines, queues, scopes, strategy
from tests.poplar.contract import CONTRACT, SYMBOLS, arguments

_PACKAGE = "tensorflow.python.ipu."
# Where names are placed; `keras.ipu` is a part of Keras, the others stand alone.
_PLACES = (_PACKAGE, "keras.ipu.", "ipu_tensorflow_addons.")
_FOREIGN = ("tensorflow.python", "keras")
_OF_PACKAGE = {
    "config.IPUConfig": config.IPUConfig,
    "config.configure_ipu_system": config.configure_ipu_system,
    "config.reset_ipu_configuration": config.reset_ipu_configuration,
    "config.running_on_ipu_model": config.running_on_ipu_model,
    "utils.running_on_ipu_model": config.running_on_ipu_model,
    "utils.get_num_of_ipus_in_device": config.get_num_of_ipus_in_device,
    "ipu_strategy.IPUStrategyV1": strategy.IPUStrategyV1,
    "ipu_infeed_queue.IPUInfeedQueue": queues.IPUInfeedQueue,
    "ipu_outfeed_queue.IPUOutfeedQueue": queues.IPUOutfeedQueue,
    "loops.repeat": queues.repeat,
    "ops.cross_replica_ops.cross_replica_sum": strategy.cross_replica_sum,
    "ops.cross_replica_ops.cross_replica_mean": strategy.cross_replica_mean,
    "ops.all_to_all_op.all_gather": strategy.all_gather,
    "ops.replication_ops.replication_index": strategy.replication_index,
    "distributed.popdist_strategy.PopDistStrategy": strategy.PopDistStrategy,
    **{f"scopes.{name}": scope for name, scope in scopes.IMPLEMENTED.items()},
}
_IMPLEMENTED = {
    **{_PACKAGE + name: value for name, value in _OF_PACKAGE.items()},
    **{f"keras.ipu.extensions.pipeline_stage_assignment.{n}": v for n, v in pipelines.IMPLEMENTED.items()},
    **addons.IMPLEMENTED,
}


def modules(pod):
    """{dotted name: module}; without popdist and its strategy if `pod` is None."""
    made = {}
    for name, entry in SYMBOLS.items():
        if _is_member(name) or (pod is None and ".distributed." in name):
            continue
        for reachable in (name, *entry.get("also_reachable_as", ())):
            if reachable.startswith(_PLACES):
                _place(made, reachable, _object(entry["target"] if entry["kind"] == "alias" else name))
    made["tensorflow.keras.ipu"] = made["keras.ipu"]
    if pod is not None:
        _place_popdist(made, pod)
    return made


def _is_member(name):
    """Whether a name is a class's method or property, and not a module's."""
    return name.rsplit(".", 1)[0] in SYMBOLS


def _object(name):
    kind = SYMBOLS[name]["kind"]
    if kind == "enum" and name.split(".")[-1] in config.ENUMERATIONS:
        return config.ENUMERATIONS[name.split(".")[-1]]
    if kind != "function" and name in _IMPLEMENTED:
        return _IMPLEMENTED[name]

    @functools.wraps(_IMPLEMENTED.get(name, _missing))
    def call(*given, **named):
        given, named = arguments(name, given, named)
        if name not in _IMPLEMENTED:
            raise NotImplementedError(f"The double has no {name}.")
        return _IMPLEMENTED[name](*given, **named)

    return call


def _missing():
    pass


def _place(made, dotted, value):
    """Puts a value at its place, in modules made as needed."""
    path, name = dotted.rsplit(".", 1)
    setattr(_module(made, path), name, value)


def _module(made, path):
    if path not in made:
        made[path] = types.ModuleType(path)
        made[path].__path__ = []
        parent, _, name = path.rpartition(".")
        if parent and parent not in _FOREIGN:
            setattr(_module(made, parent), name, made[path])
    return made[path]


def _place_popdist(made, pod):
    values = {
        "popdist.init": lambda: None,
        "popdist.getNumInstances": lambda: pod.instances,
        "popdist.getInstanceIndex": lambda: pod.index,
        "popdist.getNumTotalReplicas": lambda: pod.replicas,
        "popdist.getNumLocalReplicas": lambda: pod.replicas // pod.instances,
        "popdist.tensorflow.set_ipu_config": pod.set_ipu_config,
    }
    assert sorted(values) == sorted(CONTRACT["binary_only"])
    for name, value in values.items():
        _place(made, name, value)
