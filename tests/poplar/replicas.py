"""Replicas on a CPU: one traced program, executed once by each, with its own variables and index.

Cross-replica operations are queues between the executions, one for each sender and receiver, so that they
work in loops and every replica adds in the same order. A program's captures tell whose variables, index
and queues it uses: each replica gets its own in their place.
"""

import threading

import numpy as np
import tensorflow as tf


class Replicas:
    """The executions' state: copies of variables, the index, the queues.

    Args:
      count: R.
      first: the number of the first one here among those of all instances.
      elsewhere: how many other instances have, to which the double has no connection.
    """

    def __init__(self, count, first=0, elsewhere=0):
        self.count = count
        self.total = count + elsewhere
        with tf.init_scope(), tf.device("/cpu:0"):
            self._index = [tf.Variable(first + r, dtype=tf.int32) for r in range(count)]
        self._substitutes = {}  # id of a captured handle -> (the handle, one for each replica)
        self._register(self._index[0].handle, [index.handle for index in self._index])
        self._copies = {}  # id of a captured handle -> _Copies
        self._keep = []  # queues

    def _register(self, handle, each):
        self._substitutes[id(handle)] = (handle, each)

    def index(self):
        return tf.raw_ops.ReadVariableOp(resource=self._index[0].handle, dtype=tf.int32)

    def gather(self, x):
        """`x` of every replica: [R, ...], on every replica the same."""
        x = tf.convert_to_tensor(x)
        if self.total > self.count:
            raise NotImplementedError("The double has no connection to other instances.")
        if self.count == 1:
            return x[tf.newaxis]
        to, of = self._queues(x.dtype, x.shape)
        sent = [tf.raw_ops.QueueEnqueueV2(handle=handle, components=[x]) for handle in to]
        received = []
        with tf.control_dependencies([op for op in sent if op is not None]):
            for handle in of:
                (item,) = tf.raw_ops.QueueDequeueV2(handle=handle, component_types=[x.dtype])
                received.append(tf.ensure_shape(item, x.shape))
        return tf.stack(received)

    def _queues(self, dtype, shape):
        """Handles that stand, in the program, for this replica's queues to and from each replica."""
        with tf.init_scope(), tf.device("/cpu:0"):
            queues = [
                [tf.queue.FIFOQueue(8, [dtype], [shape]) for _ in range(self.count)]
                for _ in range(self.count)
            ]
            self._keep.append(queues)
            handles = [[queue.queue_ref for queue in row] for row in queues]
            to = [tf.identity(handles[0][j]) for j in range(self.count)]
            of = [tf.identity(handles[j][0]) for j in range(self.count)]
        for j in range(self.count):
            self._register(to[j], [handles[r][j] for r in range(self.count)])
            self._register(of[j], [handles[j][r] for r in range(self.count)])
        return to, of

    def own_queues(self, capacity, dtypes, shapes):
        """(a queue for each replica, the handle that stands for a replica's own in the program)."""
        with tf.init_scope(), tf.device("/cpu:0"):
            queues = [tf.queue.FIFOQueue(capacity, dtypes, shapes) for _ in range(self.count)]
            handle = tf.identity(queues[0].queue_ref)
        self._keep.append(queues)
        self._register(handle, [queue.queue_ref for queue in queues])
        return queues, handle

    def iterator(self, dataset):
        """An iterator that in the program stands for each replica's own, of elements r, r + R, ..."""
        with tf.init_scope(), tf.device("/cpu:0"):
            each = [iter(dataset.shard(self.count, index)) for index in range(self.count)]
        self._keep.append(each)
        self._register(each[0]._iterator_resource, [own._iterator_resource for own in each])
        return each[0]

    def run(self, program, arguments):
        """Executes a concrete function on every replica.

        Args:
          program: the concrete function.
          arguments: a list of flat tensors for each replica.

        Returns:
          What each returns.
        """
        captured = self._captured(program)
        results, errors = [None] * self.count, []

        def execute(r):
            try:
                results[r] = program._call_flat(arguments[r], captured[r])
            except Exception as error:  # re-raised below, in the caller's thread
                errors.append(error)

        threads = [threading.Thread(target=execute, args=(r,)) for r in range(1, self.count)]
        for thread in threads:
            thread.start()
        execute(0)
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        for handle in filter(_is_variable, program.captured_inputs):
            if id(handle) in self._copies:
                self._copies[id(handle)].host = _read(handle).numpy()
        return results

    def values(self, variable):
        """A variable's value on each replica, after the last run."""
        copies = self._copies[id(variable.handle)].handles
        return [_read(handle).numpy() for handle in copies]

    def _captured(self, program):
        """The captures of each replica's execution."""
        captured = [[] for _ in range(self.count)]
        for tensor in program.captured_inputs:
            if id(tensor) in self._substitutes:
                each = self._substitutes[id(tensor)][1]
            elif _is_variable(tensor):
                each = self._copy(tensor)
            else:
                each = [tensor] * self.count
            for mine, substitute in zip(captured, each):
                mine.append(substitute)
        return captured

    def _copy(self, handle):
        """A variable's handle on each replica; what the host has written since the last run goes to all."""
        now = _read(handle)
        if id(handle) not in self._copies:
            self._copies[id(handle)] = _Copies(handle, now, self.count)
        copies = self._copies[id(handle)]
        if not np.array_equal(now.numpy(), copies.host, equal_nan=True):
            for other in copies.handles[1:]:
                tf.raw_ops.AssignVariableOp(resource=other, value=now)
            copies.host = now.numpy()
        return copies.handles


class _Copies:
    """A variable: the host's own, which is replica 0's, and one for each other replica."""

    def __init__(self, handle, value, count):
        self.variables = [tf.Variable(value) for _ in range(1, count)]
        self.handles = [handle, *(variable.handle for variable in self.variables)]
        self.host = value.numpy()


def _is_variable(tensor):
    data = getattr(tensor, "_handle_data", None)
    return tensor.dtype == tf.resource and data is not None and len(data.shape_and_type) == 1


def _read(handle):
    dtype = tf.dtypes.as_dtype(handle._handle_data.shape_and_type[0].dtype)
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
