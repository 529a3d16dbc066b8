"""RandomBasesDescent for Keras 2.6, the Poplar SDK's: an OptimizerV2."""

from typing import Any

import tensorflow as tf

from random_bases import device
from random_bases.keras_api import keras, register_serializable, trained_of
from random_bases.optimizers.collectives import count_replicas, current_replicas
from random_bases.optimizers.directions import own_variable
from random_bases.optimizers.rule import positions
from random_bases.optimizers.wrapper import Wrapper

# What LossScaleOptimizer inherits from to stand for the optimizer inside in checkpoints and saved
# models. Private: found through the public class that uses it.
_DelegatingTrackableMixin: Any = next(
    base
    for base in keras.mixed_precision.LossScaleOptimizer.__mro__
    if base.__name__ == "_DelegatingTrackableMixin"
)


class _Adapter(Wrapper, _DelegatingTrackableMixin, keras.optimizers.Optimizer):
    # Built like Keras's LossScaleOptimizer: no state of its own, so OptimizerV2.__init__ is not called.
    def _wrap(self, inner_optimizer, rule, name):
        object.__setattr__(self, "inner_optimizer", inner_optimizer)
        _DelegatingTrackableMixin.__init__(self, inner_optimizer)
        # Past the tracking of attributes: a checkpoint must look as the inner optimizer's does.
        object.__setattr__(self, "rule", rule)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_indices", None)

    # OptimizerV2 looks hyperparameters (learning_rate, momentum, ...) up in `_hyper`.

    @property
    def _hyper(self):
        # A copy being made has no attributes yet: OptimizerV2 looks for those among the hyperparameters.
        return object.__getattribute__(self, "inner_optimizer")._hyper

    def _get_hyper(self, name, dtype=None):
        return self.inner_optimizer._get_hyper(name, dtype)

    def _set_hyper(self, name, value):
        self.inner_optimizer._set_hyper(name, value)

    @property
    def weights(self):
        return self.inner_optimizer.weights

    def variables(self):
        return self.inner_optimizer.variables()

    def get_weights(self):
        return self.inner_optimizer.get_weights()

    def set_weights(self, weights):
        self.inner_optimizer.set_weights(weights)

    def get_slot_names(self):
        return self.inner_optimizer.get_slot_names()

    def get_slot(self, var, slot_name):
        return self.inner_optimizer.get_slot(var, slot_name)

    def add_slot(self, var, slot_name, initializer="zeros", shape=None):
        return self.inner_optimizer.add_slot(var, slot_name, initializer, shape)

    def _restore_slot_variable(self, slot_name, variable, slot_variable):
        return self.inner_optimizer._restore_slot_variable(slot_name, variable, slot_variable)

    def _create_or_restore_slot_variable(self, slot_variable_position, slot_name, variable):
        return self.inner_optimizer._create_or_restore_slot_variable(
            slot_variable_position, slot_name, variable
        )

    def _transform_unaggregated_gradients(self, grads_and_vars):
        return self.inner_optimizer._transform_unaggregated_gradients(grads_and_vars)

    def _aggregate_gradients(self, grads_and_vars):
        """Where replicas exchange gradients, also for LossScaleOptimizer around this one.

        With several replicas these leave it as P P^T g, so that only coordinates travel.
        """
        replicas = current_replicas()
        if replicas.count == 1:
            return self.inner_optimizer._aggregate_gradients(grads_and_vars)
        return self._sketch(grads_and_vars, replicas)

    def _compute_gradients(self, loss, var_list, grad_loss=None, tape=None):
        grads_and_vars = self.inner_optimizer._compute_gradients(loss, var_list, grad_loss, tape)
        replicas, kind = count_replicas(), device.at_hand()
        with tf.init_scope():  # which forgets the strategy
            # Here, as LossScaleOptimizer passes on only the variables that have a gradient.
            self._build([variable for _, variable in grads_and_vars], replicas, kind)
        return grads_and_vars

    def get_gradients(self, loss, params):
        return self.inner_optimizer.get_gradients(loss, params)

    def _create_all_weights(self, var_list):
        self._build(var_list, count_replicas(), device.at_hand())

    def _build(self, var_list, replica_count, kind):
        if not var_list:
            return
        if self._indices is None:
            trained = trained_of(var_list)
            names = [v.name.split(":")[0] for v in trained]
            self.rule.build([v.shape for v in trained], names, replica_count, kind.has_own_variables)
            indices = {_key(v): i for i, v in enumerate(trained)}
            object.__setattr__(self, "_indices", indices)
        with tf.name_scope(self.inner_optimizer._name):  # as in its `apply_gradients`
            self.inner_optimizer._create_all_weights(var_list)
        with tf.name_scope(self._name):
            self._make_states()

    def _make_state(self, spec):
        if spec.own:
            variable = own_variable(spec, self.rule.replica_count)
        else:
            variable = self.inner_optimizer.add_weight(
                spec.name, spec.shape, dtype=tf.dtypes.as_dtype(spec.dtype), trainable=False
            )
        # Has it saved in .h5 files, which `add_weight` leaves to its caller.
        self.inner_optimizer._weights.append(variable)
        return variable

    def _sketch(self, grads_and_vars, replicas):
        if not grads_and_vars:
            return []
        trained = {id(variable) for variable in trained_of([v for _, v in grads_and_vars])}
        grads_and_vars = [(grad, v) for grad, v in grads_and_vars if id(v) in trained]
        indices = positions([variable for _, variable in grads_and_vars], self._indices, _key)
        every = [None] * len(self._indices)
        for index, (grad, _) in zip(indices, grads_and_vars):
            every[index] = grad
        sketched = self.rule(every, self.iterations, replicas)
        return [(sketched[index], variable) for index, (_, variable) in zip(indices, grads_and_vars)]

    def apply_gradients(self, grads_and_vars, name=None, experimental_aggregate_gradients=True):
        grads_and_vars = list(grads_and_vars)
        replicas, kind = current_replicas(), device.at_hand()
        with tf.init_scope():
            # Before None gradients are dropped: the subspace has every variable.
            self._build([variable for _, variable in grads_and_vars], replicas.count, kind)
        missing = [(g, v) for g, v in grads_and_vars if g is None]
        if experimental_aggregate_gradients:
            grads_and_vars = [(g, v) for g, v in grads_and_vars if g is not None]
            grads_and_vars = self._transform_unaggregated_gradients(grads_and_vars)
            grads_and_vars = self._aggregate_gradients(grads_and_vars)
            # The inner optimizer drops them with a warning or, if all are None, an error.
            grads_and_vars = [*grads_and_vars, *missing]
        if replicas.count == 1:
            grads_and_vars = self._sketch(grads_and_vars, replicas)
        return self.inner_optimizer.apply_gradients(
            grads_and_vars, name=name, experimental_aggregate_gradients=False
        )

    def _refuse_single_updates(self, *unused):
        raise ValueError(
            "RandomBasesDescent is asked to update a single variable, by a wrapper that does not call its "
            "apply_gradients, as use_v2_gradient_accumulation_optimizer=True of Keras on the IPU does (which "
            "has removed the optimizer's clipping, too: make a new one); allowed: False, the default."
        )

    # What is asked of an optimizer in that case.
    _prepare = _resource_apply_dense = _resource_apply_sparse = _refuse_single_updates

    def get_config(self):
        return {"name": self._name, **super().get_config()}


@register_serializable
class RandomBasesDescent(_Adapter):
    # A class below one that has all of it: versions of Keras on the IPU that accumulate gradients ask whether
    # the next class in line has the same `minimize`, which `Wrapper` has not.
    __doc__ = Wrapper.__doc__


def _key(variable):
    """Identifies a variable, whichever replica's component of it is at hand."""
    if hasattr(variable, "_distributed_container"):
        variable = variable._distributed_container()
    return variable._unique_id
