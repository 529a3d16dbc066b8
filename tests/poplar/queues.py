"""Infeeds and outfeeds: what goes to the device's programs from a dataset, and comes back, step by step."""

import tensorflow as tf

from tests.poplar.config import ENUMERATIONS
from tests.poplar.contract import arguments, signature
from tests.poplar.strategy import current_replicas

_INFEEDS = "tensorflow.python.ipu.ipu_infeed_queue."
_OUTFEEDS = "tensorflow.python.ipu.ipu_outfeed_queue."
IPUOutfeedMode = ENUMERATIONS["IPUOutfeedMode"]

# More than any test enqueues before it dequeues.
_CAPACITY = 2**16


def _bound(name, given, named):
    given, named = arguments(name, given, named)
    bound = signature(name).bind(*given, **named)
    bound.apply_defaults()
    return bound.arguments


class IPUInfeedQueue:
    """Elements of a dataset, for the loops of `loops.repeat`."""

    def __init__(self, *given, **named):
        self._dataset = _bound(_INFEEDS + "IPUInfeedQueue", given, named)["dataset"]
        for spec in tf.nest.flatten(self._dataset.element_spec):
            if not spec.shape.is_fully_defined():
                raise ValueError(
                    f"The dataset has elements of shape {spec.shape}, which is not fully defined."
                )
        self._iterator = None

    @property
    def number_of_tuple_elements(self):
        return len(tf.nest.flatten(self._dataset.element_spec))

    @property
    def initializer(self):
        return tf.no_op()

    @property
    def deleter(self):
        return tf.no_op()

    @property
    def dequeued(self):
        return self._iterator is not None

    def get_next(self):
        raise RuntimeError("An IPUInfeedQueue is for loops.repeat; in tf.functions use iter(dataset).")

    def _dequeue(self):
        """The next element, in a program."""
        if self._iterator is None:
            self._iterator = current_replicas().iterator(self._dataset)
        return next(self._iterator)


class IPUOutfeedQueue:
    """What the programs of all replicas enqueue, for the host to read."""

    def __init__(self, *given, **named):
        values = _bound(_OUTFEEDS + "IPUOutfeedQueue", given, named)
        self._mode = values["outfeed_mode"] or IPUOutfeedMode.ALL
        if not isinstance(self._mode, IPUOutfeedMode):
            raise ValueError(f"outfeed_mode={self._mode!r} must be an IPUOutfeedMode.")
        self._queues = None

    @property
    def enqueued(self):
        return self._queues is not None

    @property
    def deleter(self):
        self._queues = None
        return tf.no_op()

    def enqueue(self, tensors):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, tensors)
        flat = tf.nest.flatten(tensors)
        replicas = current_replicas()
        if self._queues is None:
            self._structure = tf.nest.map_structure(lambda tensor: tensor.dtype, tensors)
            self._queues, self._handle = replicas.own_queues(
                _CAPACITY, [t.dtype for t in flat], [t.shape for t in flat]
            )
        return tf.raw_ops.QueueEnqueueV2(handle=self._handle, components=flat)

    def dequeue(self, wait_for_completion=False):
        """[steps, (replicas,) ...]; with IPUOutfeedMode.LAST [(replicas,) ...]."""
        if self._queues is None:
            raise ValueError("Nothing was enqueued yet.")
        each = []
        for queue in self._queues:
            elements = [tf.nest.flatten(queue.dequeue()) for _ in range(int(queue.size()))]
            each.append([tf.stack(tensors) for tensors in zip(*elements)])
        stacked = [tf.stack(tensors, axis=1) for tensors in zip(*each)]
        if len(self._queues) == 1:
            stacked = [tensor[:, 0] for tensor in stacked]
        if self._mode is IPUOutfeedMode.LAST:
            stacked = [tensor[-1] for tensor in stacked]
        return tf.nest.pack_sequence_as(self._structure, stacked)

    def __iter__(self):
        results = self.dequeue()
        flat = tf.nest.flatten(results)
        for index in range(len(flat[0])):
            yield tf.nest.map_structure(lambda tensor, index=index: tensor[index], results)


def repeat(n, body, inputs=None, infeed_queue=None, use_while_v1=True):
    """`loops.repeat`: body(*inputs, *what the queue gives) -> inputs, n times."""
    inputs = [tf.convert_to_tensor(value) for value in ([] if inputs is None else tf.nest.flatten(inputs))]

    def step(i, *state):
        fed, named = (), {}
        if infeed_queue is not None:
            element = infeed_queue._dequeue()
            if isinstance(element, dict):
                named = element
            else:
                fed = element if isinstance(element, tuple) else (element,)
        results = body(*state, *fed, **named)
        results = [] if results is None else tf.nest.flatten(results)
        return (i + 1, *(r for r in results if isinstance(r, tf.Tensor)))

    _, *state = tf.while_loop(lambda i, *_: i < n, step, (tf.constant(0), *inputs), parallel_iterations=1)
    return state[0] if len(state) == 1 else state
