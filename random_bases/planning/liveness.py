"""How many bytes of tensors are alive at once in a traced function, as a compiler that fuses would have it.

Operations are taken in the order in which they were traced, and a buffer lives from the one that makes it to
the last one that reads it. Of operations on single elements XLA makes no buffers where what reads them can
compute them again (a bias, a ReLU and its gradient, a sum); it does where a product or a convolution reads
them, and where they are expensive (an exponential, a quotient) and read twice.
"""

import collections
from typing import Any, Dict, FrozenSet, List, NamedTuple, Sequence, Set

import tensorflow as tf
from tensorflow import Tensor

# The same elements: no buffer of their own.
_VIEWS = frozenset(
    "Identity IdentityN Reshape StopGradient Squeeze ExpandDims ReadVariableOp PreventGradient EnsureShape "
    "Snapshot".split()
)
# Computed again by whoever reads them.
_CHEAP = frozenset(
    "Relu ReluGrad Relu6 Relu6Grad LeakyRelu LeakyReluGrad BiasAdd Add AddV2 AddN Sub Mul Maximum Minimum "
    "Square Abs Sign Cast Neg Select SelectV2 BroadcastTo Fill ZerosLike OnesLike Greater GreaterEqual Less "
    "LessEqual Equal NotEqual LogicalAnd LogicalOr LogicalNot Tile Pad PadV2 Slice StridedSlice OneHot "
    "Range".split()
)
_EXPENSIVE = frozenset(
    "Tanh TanhGrad Erf Exp Sigmoid SigmoidGrad RealDiv DivNoNan Rsqrt RsqrtGrad Sqrt SqrtGrad Pow Log Log1p "
    "Elu EluGrad Selu SeluGrad Softplus SoftplusGrad SquaredDifference Transpose".split()
)
# They read elements that need no buffer, and write what does.
_REDUCTIONS = frozenset(
    "Sum Mean Max Prod BiasAddGrad Softmax LogSoftmax SparseSoftmaxCrossEntropyWithLogits "
    "SoftmaxCrossEntropyWithLogits".split()
)
_NOTHING = frozenset("Placeholder Const VarHandleOp NoOp".split())


class Live(NamedTuple):
    """Bytes of what a function computes, without its arguments, constants and variables.

    Attributes:
      most: alive at once.
      kept: of those computed up to a given operation, what is read after it.
    """

    most: int
    kept: int


def live_bytes(graph: tf.Graph, forward: Tensor, held: Sequence[Tensor] = ()) -> Live:
    """What is alive in a function's graph, whose shapes are all known.

    Args:
      graph: of a function.
      forward: what is computed up to this tensor counts as `kept`.
      held: tensors that live to the end. All other results end where they are computed, as a gradient does
        that an update takes in at once.
    """
    operations = graph.get_operations()
    buffers = _Buffers(operations)
    for now, operation in enumerate(operations):
        buffers.run(operation, now)
    for tensor in held:
        buffers.read(buffers.stored(tensor, len(operations)), len(operations))
    return buffers.live(operations.index(forward.op))


class _Buffers:
    """Which buffers there are, and from when to when."""

    def __init__(self, operations: List[tf.Operation]):
        self._sizes: List[int] = []
        self._born: List[int] = []
        self._last: List[int] = []
        # Of a tensor: the buffers that it can be computed from, and its own if it has one.
        self._sources: Dict[int, FrozenSet[int]] = {}
        self._own: Dict[int, int] = {}
        self._shared = _read_twice(operations)

    def run(self, operation: tf.Operation, now: int) -> None:
        """The operation of this number reads and makes its buffers."""
        kind = operation.type
        if kind in _NOTHING:
            return
        if kind in _VIEWS and operation.inputs:
            for tensor, view in zip(operation.inputs, operation.outputs):
                if id(tensor) in self._sources:
                    self._sources[id(view)] = self._sources[id(tensor)]
            return
        fused = frozenset().union(*(self._sources.get(id(tensor), ()) for tensor in operation.inputs))
        shared = any(id(tensor) in self._shared for tensor in operation.outputs)
        if kind in _CHEAP or kind in _EXPENSIVE and not shared:
            for tensor in operation.outputs:
                self._sources[id(tensor)] = fused
            return
        if kind in _EXPENSIVE or kind in _REDUCTIONS:
            self.read(fused, now)
        else:
            for tensor in operation.inputs:
                self.read(self.stored(tensor, now), now)
        for tensor in operation.outputs:
            if bytes_of(tensor):
                self._make(tensor, now)

    def stored(self, tensor: Tensor, now: int) -> FrozenSet[int]:
        """The buffer of a tensor, made now from what it can be computed from if it has none."""
        while tensor.op.type in _VIEWS and tensor.op.inputs:
            tensor = tensor.op.inputs[tensor.op.outputs.index(tensor) if len(tensor.op.inputs) > 1 else 0]
        if id(tensor) not in self._sources or not bytes_of(tensor):
            return frozenset()
        if id(tensor) not in self._own:
            self.read(self._sources[id(tensor)], now)
            sources = self._sources[id(tensor)]
            self._make(tensor, now)
            self._sources[id(tensor)] = sources  # others compute it again all the same
        return frozenset([self._own[id(tensor)]])

    def read(self, buffers: FrozenSet[int], now: int) -> None:
        for buffer in buffers:
            self._last[buffer] = max(self._last[buffer], now)

    def _make(self, tensor: Tensor, now: int) -> None:
        self._own[id(tensor)] = len(self._sizes)
        self._sources[id(tensor)] = frozenset([len(self._sizes)])
        self._sizes.append(bytes_of(tensor))
        self._born.append(now)
        self._last.append(now)

    def live(self, forward: int) -> Live:
        changes: Dict[int, int] = collections.Counter()
        kept = 0
        for size, born, last in zip(self._sizes, self._born, self._last):
            changes[born] += size
            changes[last + 1] -= size
            kept += size if born <= forward < last else 0
        now = most = 0
        for _, change in sorted(changes.items()):
            now += change
            most = max(most, now)
        return Live(most, kept)


def _read_twice(operations: List[tf.Operation]) -> Set[int]:
    """The tensors that more than one operation reads, those that are computed again being looked through."""
    readers: Dict[int, int] = collections.Counter()
    for operation in reversed(operations):
        again = operation.type in _CHEAP or operation.type in _VIEWS
        for position, tensor in enumerate(operation.inputs):
            if not again:
                readers[id(tensor)] += 1
            elif operation.type == "IdentityN":
                readers[id(tensor)] += readers[id(operation.outputs[position])]
            else:
                readers[id(tensor)] += sum(readers[id(output)] for output in operation.outputs)
    return {tensor for tensor, count in readers.items() if count > 1}


def bytes_of(tensor: Any) -> int:
    """Of a tensor or variable of known shape; 0 of handles, and of what has no known shape."""
    shape, dtype = tf.TensorShape(tensor.shape), tf.as_dtype(tensor.dtype)
    if dtype in (tf.resource, tf.variant, tf.string) or not shape.is_fully_defined():
        return 0
    return int(shape.num_elements()) * dtype.size
