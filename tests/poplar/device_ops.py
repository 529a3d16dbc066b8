"""What the IPU cannot compile, found in traced graphs: operations and types.

From Graphcore's public sources (TensorFlow r2.6, SDK 3.4): the XLA types of its device, and its list of
disabled tests. XLA's own limits (dynamic shapes, strings) come to that.
"""

import re

import tensorflow as tf

_TYPES = {
    tf.float32, tf.float16, tf.int32, tf.bool, tf.int64, tf.resource, tf.variant
}  # fmt: skip

# These need HLO RngBitGenerator, or state of a generator; or have no lowering; or shapes that data decide.
_OPERATIONS = re.compile(
    "|".join(
        (
            "StatelessRandomUniformFullInt.*",
            "Stateful.*Random.*|StatefulUniform.*|Rng(ReadAnd)?Skip.*|NonDeterministicInts",
            "StatelessRandom(Gamma|Binomial|Poisson).*|StatelessParameterized.*",
            "(Batch)?I?R?FFT.*|.*FFT[23]?D",
            "Qr|Svd|SelfAdjointEig.*|Eig|TridiagonalSolve.*|TridiagonalMatMul",
            "Resampler.*",
            "Where|Unique.*|ListDiff|DynamicPartition|BooleanMask|NonMaxSuppression.*",
            "PyFunc|EagerPyFunc|PyFuncStateless|Print.*|StringFormat|AsString",
        )
    )
)
# What hands the seed through: their 64-bit words never meet arithmetic.
_OF_THE_SEED = re.compile("StatelessRandom(GetKeyCounter.*|GetAlg)")
_MOVES = re.compile(
    "Cast|Const|Placeholder|_Arg|_Retval|Identity|IdentityN|ReadVariableOp|VarHandleOp|NoOp|Pack|"
    "(Stateful)?PartitionedCall|While|StatelessWhile|If|StatelessIf|AssignVariableOp|Case"
)


def nodes(graph):
    """All nodes of a graph and of the functions that it calls."""
    definition = graph.as_graph_def()
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def _types(node):
    for name, attribute in node.attr.items():
        if attribute.WhichOneof("value") == "type":
            yield name, tf.dtypes.as_dtype(attribute.type)
        for each in attribute.list.type:
            yield name, tf.dtypes.as_dtype(each)


def forbidden(graph, int64=False):
    """What a graph has that an IPU cannot compile, as a set of sentences.

    Args:
      graph: of a traced function.
      int64: whether arithmetic in int64 is let pass, which the device does in 32 bits: Keras's own counters.
    """
    found = set()
    for node in nodes(graph):
        if _OPERATIONS.fullmatch(node.op):
            found.add(f"operation {node.op}")
        if _OF_THE_SEED.fullmatch(node.op):
            continue
        for name, dtype in _types(node):
            if dtype not in _TYPES:
                found.add(f"{dtype.name} in {node.op}")
            if dtype == tf.int64 and name.startswith("T") and not (int64 or _MOVES.fullmatch(node.op)):
                found.add(f"int64 arithmetic in {node.op}")
    return found
