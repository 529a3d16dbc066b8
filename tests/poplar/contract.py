"""What the contract says: signatures, enumerations, configuration options; and who may ask.

Below this folder is a double of Graphcore's TensorFlow, `tensorflow.python.ipu`, for Keras 2.6 on the CPU.
It was written from an API contract (contract.json) that was read off public sources: nothing of Graphcore's
is in it, and it knows no more of the IPU than the contract and docs/ipu.md say. It is simple but truthful:
programs are traced once and executed by each replica with its own variables, index and data, sums cross
replicas, types and operations that the IPU lacks are refused, and so is every name, argument and option that
the contract does not have. `with tests.poplar.double.installed(): ...` is the only way to it.
"""

import ast
import enum
import inspect
import json
import sys
from pathlib import Path

from random_bases.keras_api import GENERATION

if "pytest" not in sys.modules:
    raise ImportError("tests.poplar is for tests only: it is no IPU, and no faster than a CPU.")

import pytest

if GENERATION != "keras2.6":
    pytest.skip("the double of the Poplar SDK's TensorFlow needs TensorFlow 2.6", allow_module_level=True)

CONTRACT = json.loads(Path(__file__).with_name("contract.json").read_text(encoding="utf-8"))
SYMBOLS = CONTRACT["symbols"]

_KINDS = {
    "pos_or_kw": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "var_positional": inspect.Parameter.VAR_POSITIONAL,
    "var_keyword": inspect.Parameter.VAR_KEYWORD,
}


class Expression:
    """A default that is no literal, as its source."""

    def __init__(self, source):
        self.source = source


def literal(source):
    try:
        return ast.literal_eval(source)
    except ValueError:
        return Expression(source)


def signature(name):
    """The `inspect.Signature` of a function, method or class, without self."""
    parameters = []
    for parameter in SYMBOLS[name].get("parameters", ()):
        default = inspect.Parameter.empty
        if "default" in parameter:
            default = literal(parameter["default"])
        parameters.append(inspect.Parameter(parameter["name"], _KINDS[parameter["kind"]], default=default))
    return inspect.Signature(parameters)


def arguments(name, given, named):
    """The arguments of a call as the contract reads them; TypeError for any that it does not know."""
    try:
        bound = signature(name).bind(*given, **named)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    return bound.args, bound.kwargs


def enumerations():
    """{dotted name: Enum} of those whose values are known."""
    return {
        name: enum.Enum(name.split(".")[-1], entry["member_values"])
        for name, entry in SYMBOLS.items()
        if entry["kind"] == "enum" and "member_values" in entry
    }
