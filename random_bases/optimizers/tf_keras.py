"""RandomBasesDescent for tf-keras (Keras 2.11 - 2.15 and `TF_USE_LEGACY_KERAS=1`)."""

import tensorflow as tf

from random_bases.keras_api import keras, register_serializable
from random_bases.optimizers.exchange import current_workers
from random_bases.optimizers.rule import DOCUMENTATION, RandomBasesRule, positions, refuse, resolve_inner
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
        replicas="shared",
        exchange="coordinates",
        keep_fraction=1.0,
        redraw_fraction=1.0,
        memory_limit=None,
        name="random_bases_descent",
        **kwargs,
    ):
        refuse(kwargs)
        rule = RandomBasesRule(
            dimensions,
            basis,
            compartments,
            allocation,
            redraw_every,
            seed,
            replicas,
            exchange,
            keep_fraction,
            redraw_fraction,
            memory_limit,
        )
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
        self._build(var_list, tf.distribute.get_strategy().num_replicas_in_sync)

    def _build(self, var_list, workers):
        if self.rule.workers is None:
            names = [v.name.split(":")[0] for v in var_list]
            self.rule.build([v.shape for v in var_list], names, workers)
            self._indices = {self._var_key(v): i for i, v in enumerate(var_list)}
        self.inner_optimizer.build(var_list)
        if self.rule.state is None and self.rule.state_spec is not None:
            self.rule.state = self.inner_optimizer.add_variable(**self.rule.state_spec)

    def compute_gradients(self, loss, var_list, tape=None):
        return self.inner_optimizer.compute_gradients(loss, var_list, tape)

    def aggregate_gradients(self, grads_and_vars):
        """The place where LossScaleOptimizer, around this one, lets replicas exchange gradients.

        With several replicas these leave it as P P^T g, so that only coordinates travel, and
        `skip_gradients_aggregation=True` says that they did.
        """
        workers = current_workers()
        if workers.count == 1:
            return self.inner_optimizer.aggregate_gradients(grads_and_vars)
        return self._sketch(grads_and_vars, workers)

    def _sketch(self, grads_and_vars, workers):
        grads_and_vars = list(grads_and_vars)
        if not grads_and_vars:
            return []
        with tf.init_scope():  # which forgets the strategy
            self._build([variable for _, variable in grads_and_vars], workers.count)
        numbers = positions([variable for _, variable in grads_and_vars], self._indices, self._var_key)
        every = [None] * len(self._indices)
        for number, (grad, _) in zip(numbers, grads_and_vars):
            every[number] = grad
        sketched = self.rule(every, self.iterations, workers)
        return [(sketched[number], variable) for number, (_, variable) in zip(numbers, grads_and_vars)]

    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs):
        workers = current_workers()
        aggregate = kwargs.pop("experimental_aggregate_gradients", True) and not skip_gradients_aggregation
        if workers.count == 1:
            if aggregate:
                grads_and_vars = self.aggregate_gradients(grads_and_vars)
            grads_and_vars = self._sketch(grads_and_vars, workers)
        elif aggregate:
            grads_and_vars = self.aggregate_gradients(grads_and_vars)
        return self.inner_optimizer.apply_gradients(
            grads_and_vars, name=name, skip_gradients_aggregation=True, **kwargs
        )

    def get_config(self):
        return {"name": self.name, **super().get_config()}
