"""RandomBasesDescent for tf-keras (Keras 2.11 - 2.15 and `TF_USE_LEGACY_KERAS=1`)."""

import tensorflow as tf

from random_bases.keras_api import keras, register_serializable, trained_of
from random_bases.optimizers.collectives import current_replicas
from random_bases.optimizers.directions import own_variable
from random_bases.optimizers.rule import positions
from random_bases.optimizers.wrapper import Wrapper, of_inner


@register_serializable
class RandomBasesDescent(
    Wrapper, tf.__internal__.tracking.DelegatingTrackableMixin, keras.optimizers.Optimizer
):
    __doc__ = Wrapper.__doc__

    # Built like tf-keras's LossScaleOptimizerV3: an optimizer without state of its own, which stands
    # for the inner one in checkpoints, and so never calls Optimizer.__init__.
    @tf.__internal__.tracking.no_automatic_dependency_tracking
    def _wrap(self, inner_optimizer, rule, name):
        tf.__internal__.tracking.DelegatingTrackableMixin.__init__(self, inner_optimizer)
        self.inner_optimizer = inner_optimizer
        self.rule = rule
        self.name = name
        self._mesh = inner_optimizer._mesh
        self._run_with_dtensor = inner_optimizer._run_with_dtensor

    jit_compile = of_inner("jit_compile")

    @property
    def variables(self):
        variables = self.inner_optimizer.variables
        return type(variables)([*variables, *self.rule.own_state])

    def set_weights(self, weights):
        own = self.rule.own_state
        inner = len(weights) - len(own)
        self.inner_optimizer.set_weights(weights[:inner])
        for variable, value in zip(own, weights[inner:]):
            variable.assign(value)

    def build(self, var_list):
        self._build(var_list, tf.distribute.get_strategy().num_replicas_in_sync)

    def _build(self, var_list, replica_count):
        if self.rule.directions is None:
            trained = trained_of(var_list)
            names = [v.name.split(":")[0] for v in trained]
            self.rule.build([v.shape for v in trained], names, replica_count)
            self._indices = {self._var_key(v): i for i, v in enumerate(trained)}
        with tf.name_scope(self.inner_optimizer.name or "optimizer"):  # as in its `apply_gradients`
            self.inner_optimizer.build(var_list)
        with tf.name_scope(self.name):
            self._make_states()

    def _make_state(self, spec):
        if spec.own:
            return own_variable(spec, self.rule.replica_count)
        variable = tf.Variable(tf.zeros(spec.shape, spec.dtype), name=spec.name, trainable=False)
        self.inner_optimizer._variables.append(variable)  # as its `add_variable` does
        return variable

    def compute_gradients(self, loss, var_list, tape=None):
        return self.inner_optimizer.compute_gradients(loss, var_list, tape)

    def aggregate_gradients(self, grads_and_vars):
        """The place where LossScaleOptimizer, around this one, lets replicas exchange gradients.

        With several replicas these leave it as P P^T g, so that only coordinates travel, and
        `skip_gradients_aggregation=True` says that they did.
        """
        replicas = current_replicas()
        if replicas.count == 1:
            return self.inner_optimizer.aggregate_gradients(grads_and_vars)
        return self._sketch(grads_and_vars, replicas)

    def _sketch(self, grads_and_vars, replicas):
        grads_and_vars = list(grads_and_vars)
        if not grads_and_vars:
            return []
        with tf.init_scope():  # which forgets the strategy
            self._build([variable for _, variable in grads_and_vars], replicas.count)
        trained = {id(variable) for variable in trained_of([v for _, v in grads_and_vars])}
        grads_and_vars = [(grad, v) for grad, v in grads_and_vars if id(v) in trained]
        indices = positions([variable for _, variable in grads_and_vars], self._indices, self._var_key)
        every = [None] * len(self._indices)
        for index, (grad, _) in zip(indices, grads_and_vars):
            every[index] = grad
        sketched = self.rule(every, self.iterations, replicas)
        return [(sketched[index], variable) for index, (_, variable) in zip(indices, grads_and_vars)]

    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs):
        replicas = current_replicas()
        aggregate = kwargs.pop("experimental_aggregate_gradients", True) and not skip_gradients_aggregation
        if replicas.count == 1:
            if aggregate:
                grads_and_vars = self.aggregate_gradients(grads_and_vars)
            grads_and_vars = self._sketch(grads_and_vars, replicas)
        elif aggregate:
            grads_and_vars = self.aggregate_gradients(grads_and_vars)
        return self.inner_optimizer.apply_gradients(
            grads_and_vars, name=name, skip_gradients_aggregation=True, **kwargs
        )

    def get_config(self):
        return {"name": self.name, **super().get_config()}
