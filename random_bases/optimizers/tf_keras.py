"""RandomBasesDescent for tf-keras (Keras 2.11 - 2.15 and `TF_USE_LEGACY_KERAS=1`)."""

import tensorflow as tf

from random_bases.keras_api import keras, register_serializable
from random_bases.optimizers.rule import DOCUMENTATION, RandomBasesRule, refuse, resolve_inner
from random_bases.optimizers.wrapper import Wrapper


@register_serializable
class RandomBasesDescent(
    Wrapper, tf.__internal__.tracking.DelegatingTrackableMixin, keras.optimizers.Optimizer
):
    __doc__ = DOCUMENTATION

    # Built like tf-keras's LossScaleOptimizerV3: an optimizer without state of its own, which stands
    # for the inner one in checkpoints, and so never calls Optimizer.__init__.
    @tf.__internal__.tracking.no_automatic_dependency_tracking
    def __init__(
        self,
        inner_optimizer,
        dimensions,
        basis="normal",
        compartments="network",
        allocation="even",
        redraw_every=1,
        seed=None,
        name="random_bases_descent",
        **kwargs,
    ):
        refuse(kwargs)
        rule = RandomBasesRule(dimensions, basis, compartments, allocation, redraw_every, seed)
        inner_optimizer = resolve_inner(inner_optimizer, keras)
        tf.__internal__.tracking.DelegatingTrackableMixin.__init__(self, inner_optimizer)
        self.inner_optimizer = inner_optimizer
        self.rule = rule
        self.name = name
        self._mesh = inner_optimizer._mesh
        self._run_with_dtensor = inner_optimizer._run_with_dtensor

    @property
    def use_ema(self):
        return self.inner_optimizer.use_ema

    @property
    def ema_momentum(self):
        return self.inner_optimizer.ema_momentum

    @property
    def jit_compile(self):
        return self.inner_optimizer.jit_compile

    @jit_compile.setter
    def jit_compile(self, jit_compile):
        self.inner_optimizer.jit_compile = jit_compile

    @property
    def variables(self):
        return self.inner_optimizer.variables

    def set_weights(self, weights):
        self.inner_optimizer.set_weights(weights)

    def save_own_variables(self, store):
        self.inner_optimizer.save_own_variables(store)

    def load_own_variables(self, store):
        self.inner_optimizer.load_own_variables(store)

    def build(self, var_list):
        if self.rule.subspace is None:
            self.rule.build([v.shape for v in var_list], [v.name.split(":")[0] for v in var_list])
            self._indices = {self._var_key(v): i for i, v in enumerate(var_list)}
        self.inner_optimizer.build(var_list)

    def compute_gradients(self, loss, var_list, tape=None):
        return self.inner_optimizer.compute_gradients(loss, var_list, tape)

    def aggregate_gradients(self, grads_and_vars):
        return self.inner_optimizer.aggregate_gradients(grads_and_vars)

    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs):
        grads_and_vars = list(grads_and_vars)
        with tf.init_scope():
            self.build([variable for _, variable in grads_and_vars])
        if kwargs.pop("experimental_aggregate_gradients", True) and not skip_gradients_aggregation:
            grads_and_vars = self.aggregate_gradients(grads_and_vars)
        every = [None] * len(self._indices)
        for grad, variable in grads_and_vars:
            every[self._indices[self._var_key(variable)]] = grad
        sketched = self.rule(every, self.iterations)
        pairs = [
            (sketched[self._indices[self._var_key(variable)]], variable) for _, variable in grads_and_vars
        ]
        return self.inner_optimizer.apply_gradients(
            pairs, name=name, skip_gradients_aggregation=True, **kwargs
        )

    def get_config(self):
        return {"name": self.name, **super().get_config()}
