"""IPUStrategy and PopDistStrategy, on the CPU: see replicas.py for how a program runs."""

import tensorflow as tf
from tensorflow.python.distribute import one_device_strategy
from tensorflow.python.eager import def_function, function

from tests.poplar import device_ops
from tests.poplar.config import SYSTEM, get_num_of_ipus_in_device
from tests.poplar.contract import arguments
from tests.poplar.replicas import Replicas


class IPUExtendedV1(one_device_strategy.OneDeviceExtended):
    """One replica as TensorFlow sees it, unless `in_sync` says otherwise; reductions cross replicas."""

    def __init__(self, strategy, in_sync):
        super().__init__(strategy, "/device:CPU:0")
        self._in_sync = in_sync

    @property
    def _num_replicas_in_sync(self):
        return self._in_sync

    @property
    def worker_devices(self):
        return ("/device:IPU:0",)

    def _reduce_to(self, reduce_op, value, destinations, options):
        del destinations, options
        if tf.executing_eagerly():
            raise RuntimeError("The double reduces over replicas inside programs only.")
        total = cross_replica_sum(value)
        return total / current_replicas().count if reduce_op == tf.distribute.ReduceOp.MEAN else total


class IPUStrategyV1(tf.distribute.Strategy):
    __module__ = "tensorflow.python.ipu.ipu_strategy"
    _name = "tensorflow.python.ipu.ipu_strategy.IPUStrategyV1"

    def __init__(self, *given, **named):
        _, named = arguments(self._name, given, named)
        if SYSTEM.config is None:
            raise RuntimeError("configure_ipu_system was not called before the strategy was made.")
        self.double = self._make_replicas(1)
        super().__init__(IPUExtendedV1(self, self._in_sync()))
        self._ipus_per_replica = 1
        self._programs = {}

    def _make_replicas(self, ipus_per_replica):
        return Replicas(int(get_num_of_ipus_in_device("/device:IPU:0")) // ipus_per_replica)

    def replicate(self, ipus_per_replica):
        """So many IPUs for a replica: the others are further replicas."""
        if ipus_per_replica != self._ipus_per_replica:
            self.double = self._make_replicas(ipus_per_replica)
            self._ipus_per_replica = ipus_per_replica
            self._programs = {}

    def _in_sync(self):
        return 1

    def run(self, fn, args=(), kwargs=None, options=None):
        if not tf.executing_eagerly():
            return super().run(fn, args, kwargs, options)
        if not isinstance(fn, def_function.Function):
            raise RuntimeError("IPUStrategy.run takes a tf.function when it is called eagerly.")
        results = self.run_replicas(fn, [(args, kwargs or {})] * self.double.count)
        return results[0]  # of outfeeds Keras takes the last replica's

    def run_replicas(self, fn, each):
        """fn(*args, **kwargs) on each replica, of arguments of its own; what each returns."""
        each = _with_iterators(each)
        if id(fn) not in self._programs:
            # Not compiled by XLA, which knows no queues; and traced once, whatever variables it makes.
            uncompiled = function.defun(fn.python_function, autograph=fn._autograph)
            self._programs[id(fn)] = fn, uncompiled
        flat = [_tensors(arguments) for arguments in each]
        _refuse_float64(flat[0])
        program = self.trace(self._programs[id(fn)][1], *each[0])
        _refuse_float64(program.outputs)
        return self.double.run(program, flat)

    def trace(self, fn, args=(), kwargs=None):
        """The concrete function, in the replica's context; what an IPU cannot compile is refused."""
        with self.scope(), one_device_strategy._OneDeviceReplicaContext(self):
            program = fn.get_concrete_function(*args, **(kwargs or {}))
        found = device_ops.forbidden(program.graph, int64=True)
        if found:
            raise NotImplementedError(f"The IPU cannot compile: {sorted(found)}.")
        self.program = program  # the last one, for tests to look at
        return program


class PopDistStrategy(IPUStrategyV1):
    __module__ = "tensorflow.python.ipu.distributed.popdist_strategy"
    _name = "tensorflow.python.ipu.distributed.popdist_strategy.PopDistStrategy"

    def _make_replicas(self, ipus_per_replica):
        pod = SYSTEM.pod
        here = pod.replicas // pod.instances
        return Replicas(here, first=pod.index * here, elsewhere=pod.replicas - here)

    def _in_sync(self):
        return SYSTEM.pod.replicas


def _refuse_float64(tensors):
    if any(tensor.dtype == tf.float64 for tensor in tensors):
        raise TypeError("float64 goes neither into IPUStrategy.run nor out of it.")


def current_replicas():
    """Those whose program is being traced."""
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, IPUStrategyV1) or tf.executing_eagerly():
        raise RuntimeError("This operation exists in programs for the IPU only.")
    return strategy.double


def cross_replica_sum(x, replica_group_size=None, name=None):
    if replica_group_size is not None:
        raise NotImplementedError("The double has no groups of replicas.")
    replicas = current_replicas()

    @tf.custom_gradient
    def total(x):
        return tf.reduce_sum(replicas.gather(x), axis=0), cross_replica_sum

    return total(tf.convert_to_tensor(x))


def cross_replica_mean(x, replica_group_size=None, name=None):
    if replica_group_size is not None:
        raise NotImplementedError("The double has no groups of replicas.")
    return tf.reduce_mean(current_replicas().gather(x), axis=0)


def all_gather(x, replication_factor, name=None):
    replicas = current_replicas()
    if replication_factor != replicas.total:
        raise ValueError(f"replication_factor={replication_factor}, but there are {replicas.total} replicas.")
    return replicas.gather(x)


def replication_index(name=None):
    return current_replicas().index()


def _with_iterators(each):
    """Each replica's own iterator in place of one: replica r gets elements r, r + R, ..."""
    count = len(each)
    iterators = {}

    def substitute(value, r):
        if not isinstance(value, tf.data.Iterator) or count == 1:
            return value
        if id(value) not in iterators:
            own = getattr(value, "_of_replicas", None)
            if own is None:
                own = [iter(value._dataset.shard(count, index)) for index in range(count)]
                value._of_replicas = own
            iterators[id(value)] = own
        return iterators[id(value)][r]

    return [
        tuple(tf.nest.map_structure(lambda value, r=r: substitute(value, r), arguments))
        for r, arguments in enumerate(each)
    ]


def _tensors(arguments):
    flat = tf.nest.flatten(arguments, expand_composites=True)
    return [tf.convert_to_tensor(value) for value in flat if tf.is_tensor(value) or hasattr(value, "shape")]
