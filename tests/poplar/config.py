"""IPUConfig: the options of the contract, with their types, and what is configured."""

import os

import numpy as np

from tests.poplar.contract import SYMBOLS, arguments, enumerations, literal

_NAME = "tensorflow.python.ipu.config.IPUConfig"
ENUMERATIONS = {name.split(".")[-1]: each for name, each in enumerations().items()}
_UNION = "typing.Union[int,typing.List[int],typing.Tuple[int,...]]"
_TYPES = {"bool": (bool,), "int": (int,), "float": (float,), "str": (str,), "dict": (dict,)}
_TYPES[_UNION] = (int, list, tuple)


class _Category:
    def __init__(self, tree, path=""):
        values = {}
        for name, entry in tree.items():
            if "category" in entry:
                values[name] = _Category(entry["category"], f"{path}{name}.")
            elif entry["type"] in ENUMERATIONS:
                values[name] = ENUMERATIONS[entry["type"]][entry["default"].split(".")[-1]]
            else:
                values[name] = literal(entry["default"])
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "_path", path)
        self.__dict__.update(values)

    def __setattr__(self, name, value):
        if name not in self._tree:
            raise ValueError(f"IPUConfig has no option {self._path + name!r}.")
        entry = self._tree[name]
        if "category" in entry:
            raise TypeError(f"{self._path + name!r} is a category, which cannot be assigned.")
        kind = entry["type"]
        allowed = (ENUMERATIONS[kind],) if kind in ENUMERATIONS else _TYPES[kind]
        if type(value) not in allowed:
            raise TypeError(f"IPUConfig.{self._path + name} = {value!r}: must be {kind}.")
        if kind == "dict" and not all(isinstance(s, str) for pair in value.items() for s in pair):
            raise TypeError(f"IPUConfig.{self._path + name} = {value!r}: strings to strings only.")
        if kind == _UNION and not isinstance(value, int) and not all(type(i) is int for i in value):
            raise TypeError(f"IPUConfig.{self._path + name} = {value!r}: must be ints.")
        self.__dict__[name] = value


class IPUConfig(_Category):
    def __init__(self):
        super().__init__(SYMBOLS[_NAME]["attribute_tree"])

    def configure_ipu_system(self, *given, **named):
        arguments(_NAME + ".configure_ipu_system", given, named)
        configure_ipu_system(self)


class System:
    """What is configured in this process, while the double is there."""

    config = None
    pod = None


SYSTEM = System()


def running_on_ipu_model():
    return "--use_ipu_model" in os.environ.get("TF_POPLAR_FLAGS", "").split()


def configure_ipu_system(config, device="cpu", reset_configuration=True):
    if not isinstance(config, IPUConfig):
        raise TypeError(f"config={config!r} must be an IPUConfig.")
    if config.select_ipus and config.auto_select_ipus:
        raise ValueError("auto_select_ipus and select_ipus exclude each other.")
    if config.select_ipus and running_on_ipu_model():
        raise ValueError("select_ipus is refused on the IPU Model.")
    connection = config.device_connection
    if connection.type.name in ("NEVER", "PRE_COMPILE") and not connection.version:
        raise ValueError(f"device_connection.type={connection.type} needs device_connection.version.")
    SYSTEM.config = config


def reset_ipu_configuration():
    SYSTEM.config = None


def get_num_of_ipus_in_device(ipu_device, device="cpu"):
    if SYSTEM.config is None:
        raise RuntimeError("No IPU devices are configured.")
    wanted = SYSTEM.config.auto_select_ipus
    if not wanted:
        return np.int64(1)  # what a device id stands for only hardware knows
    # What came through TensorFlow is NumPy's.
    return np.int64(wanted if isinstance(wanted, int) else wanted[int(ipu_device.rsplit(":", 1)[1])])
