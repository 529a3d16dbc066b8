"""The packages of the contract, `tensorflow.python.ipu` and popdist, as modules.

A name is there if and only if the contract has it, and takes the contract's arguments. What the double
cannot do raises NotImplementedError.
"""

import functools
import types

from tests.poplar import config, strategy
from tests.poplar.contract import CONTRACT, SYMBOLS, arguments

_PACKAGE = "tensorflow.python.ipu"
_IMPLEMENTED = {
    "config.IPUConfig": config.IPUConfig,
    "config.configure_ipu_system": config.configure_ipu_system,
    "config.reset_ipu_configuration": config.reset_ipu_configuration,
    "config.running_on_ipu_model": config.running_on_ipu_model,
    "utils.running_on_ipu_model": config.running_on_ipu_model,
    "utils.get_num_of_ipus_in_device": config.get_num_of_ipus_in_device,
    "ipu_strategy.IPUStrategyV1": strategy.IPUStrategyV1,
    "ops.cross_replica_ops.cross_replica_sum": strategy.cross_replica_sum,
    "ops.cross_replica_ops.cross_replica_mean": strategy.cross_replica_mean,
    "ops.all_to_all_op.all_gather": strategy.all_gather,
    "ops.replication_ops.replication_index": strategy.replication_index,
    "distributed.popdist_strategy.PopDistStrategy": strategy.PopDistStrategy,
}


def modules(pod):
    """{dotted name: module}; without popdist and its strategy if `pod` is None."""
    made = {}
    for name, entry in SYMBOLS.items():
        if not name.startswith(_PACKAGE + ".") or _is_member(name) or entry["kind"] == "alias":
            continue
        if pod is None and ".distributed." in name:
            continue
        for reachable in (name, *entry.get("also_reachable_as", ())):
            if reachable.startswith(_PACKAGE + "."):
                _place(made, reachable, _object(name))
    _place(made, _PACKAGE + ".ipu_strategy.IPUStrategy", strategy.IPUStrategyV1)
    if pod is not None:
        _place_popdist(made, pod)
    return made


def _is_member(name):
    """Whether a name is a class's method or property, and not a module's."""
    return name.rsplit(".", 1)[0] in SYMBOLS


def _object(name):
    kind = SYMBOLS[name]["kind"]
    short = name[len(_PACKAGE) + 1 :]
    if kind == "enum" and name.split(".")[-1] in config.ENUMERATIONS:
        return config.ENUMERATIONS[name.split(".")[-1]]
    if kind != "function" and short in _IMPLEMENTED:
        return _IMPLEMENTED[short]

    @functools.wraps(_IMPLEMENTED.get(short, _missing))
    def call(*given, **named):
        given, named = arguments(name, given, named)
        if short not in _IMPLEMENTED:
            raise NotImplementedError(f"The double has no {name}.")
        return _IMPLEMENTED[short](*given, **named)

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
        if parent and parent != "tensorflow.python":
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
