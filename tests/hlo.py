"""What XLA makes of a program, and whether Poplar's compiler takes it: an allow-list of opcodes and types.

The list is of what the visitors of Graphcore's XLA backend handle (TensorFlow r2.6: driver/visitors and
driver/ops), which is stronger than a list of operations that it lacks. The HLO is what XLA has before any
device's passes, as Poplar's gets it.
"""

import re

import tensorflow as tf

from random_bases import device

TYPES = {"f32", "f16", "s32", "pred"}
OPCODES = set(
    # Element by element.
    "abs round-nearest-afz ceil count-leading-zeros convert bitcast-convert copy cosine exponential "
    "exponential-minus-one floor is-finite log log-plus-one not negate popcnt rsqrt sign sine sqrt tanh "
    "add atan2 divide maximum minimum multiply power remainder subtract and or xor shift-left "
    "shift-right-arithmetic shift-right-logical compare clamp select rng "
    # Structure.
    "parameter constant tuple get-tuple-element call while conditional fusion map after-all add-dependency "
    # Elements moved and reduced.
    "broadcast concatenate dynamic-slice dynamic-update-slice gather iota pad reduce reduce-window reshape "
    "reverse scatter select-and-scatter slice sort transpose "
    "dot convolution batch-norm-training batch-norm-inference batch-norm-grad triangular-solve cholesky "
    # Between replicas, and with the host.
    "all-reduce all-to-all infeed outfeed custom-call".split()
)
# Of later versions. TensorFlow 2.6 writes this out in others of these; of EnsureShape it makes nothing.
_LATER = {"round-nearest-even", "logistic", "set-dimension-size"}

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ([a-z][a-z0-9\-]*)\(", re.MULTILINE)
_TYPE = re.compile(r"\b([a-z]+[0-9]*)\[")


class OneIpu(tf.distribute.OneDeviceStrategy):
    """A CPU whose programs are traced as those of one IPU, in any Keras."""

    def __init__(self):
        super().__init__("/cpu:0")
        (ipu,) = [each for each in device._OTHERS if each.name == "IPU"]
        self.device = ipu._replace(
            is_of=lambda strategy: strategy is self,
            count_replicas=lambda strategy: 1,
            count_processes=lambda strategy: 1,
            replica_index=lambda context: tf.constant(0),
            all_gather=lambda context, x, count: x[tf.newaxis],
        )


def of(strategy, function, *arguments):
    """The HLO of a function of tensors, as text."""

    def run(*arguments):
        return strategy.run(function, arguments)

    with strategy.scope():
        program = tf.function(run, jit_compile=True, autograph=False)
        return program.experimental_get_compiler_ir(*arguments)(stage="hlo")


def forbidden(text, int64=False):
    """The opcodes and types of HLO that are not in the list.

    `int64`: whether Keras's own counters are let pass, which the IPU keeps in 32 bits.
    """
    instructions = _INSTRUCTION.findall(text)
    assert len(instructions) == len(re.findall(r"^\s*(?:ROOT )?%?\S+ = ", text, re.MULTILINE)) > 0
    opcodes = {opcode for _, opcode in instructions}
    types = {each for shape, _ in instructions for each in _TYPE.findall(shape)}
    return (opcodes - OPCODES - _LATER) | (types - TYPES - ({"s64"} if int64 else set()))
