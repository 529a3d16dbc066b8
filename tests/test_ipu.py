"""Strategies of the IPU: what they configure, what they refuse, and the rules of `fit` there."""

import contextlib
import logging

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import ipu_fit, keras_api
from random_bases.keras_api import keras
from tests.poplar.config import SYSTEM
from tests.poplar.double import Pod, installed


@pytest.fixture
def double():
    with installed():
        yield


# --- Without the SDK ----------------------------------------------------------------------------------


def test_without_popdist_the_error_says_how_one_machine_is_used(double):
    with pytest.raises(RuntimeError, match='needs popdist, .*poprun.* take strategy "ipu"'):
        rb.strategies.get("ipu_pod")


# --- What is configured -------------------------------------------------------------------------------


def test_the_default_configuration(double):
    strategy = rb.strategies.get("ipu")
    config = SYSTEM.config
    assert type(strategy).__name__ == "IPUStrategyV1"
    assert config.auto_select_ipus == 1
    assert config.device_connection.type.name == "ALWAYS"
    assert config.compilation_poplar_options == {"target.deterministicWorkers": "portable"}
    behaviour = config.floating_point_behaviour
    assert behaviour.esr.name == "OFF"
    assert not any([behaviour.inv, behaviour.div0, behaviour.oflo, behaviour.nanoo, behaviour.set_all])
    assert rb.strategies.replicas(strategy) == 1


def test_options_reach_the_configuration(double):
    strategy = rb.strategies.get(
        "ipu",
        replicas=4,
        ipus_per_replica=2,
        connection="pre_compile",
        version="ipu2",
        exceptions=True,
        stochastic_rounding="replica_identical",
    )
    config = SYSTEM.config
    assert config.auto_select_ipus == 8
    assert config.device_connection.type.name == "PRE_COMPILE"
    assert config.device_connection.version == "ipu2"
    assert config.device_connection.enable_remote_buffers
    behaviour = config.floating_point_behaviour
    assert all([behaviour.inv, behaviour.div0, behaviour.oflo, behaviour.nanoo])
    assert behaviour.esr.name == "REPLICA_IDENTICAL_ONLY"
    assert config.experimental.enable_prng_stability
    assert rb.strategies.replicas(strategy) == 4
    assert strategy.num_replicas_in_sync == 1


def test_a_device_by_its_number(double):
    strategy = rb.strategies.get("ipu", replicas=2, select_ipus=[17])
    assert SYSTEM.config.select_ipus == [17]
    assert SYSTEM.config.auto_select_ipus == []
    assert rb.strategies.replicas(strategy) == 2


@pytest.mark.parametrize("horovod", [False, True], ids=["SDK 3", "SDK 2.6"])
def test_a_pod_takes_what_poprun_says(horovod):
    with installed(pod=Pod(replicas=16, instances=4, index=1), horovod=horovod):
        from random_bases import ipu

        strategy = rb.strategies.get("ipu_pod")
        assert rb.strategies.replicas(strategy) == strategy.num_replicas_in_sync == 16
        assert ipu.instances(strategy) == (1, 4)
        with pytest.raises(NotImplementedError, match="no connection to other instances"):
            strategy.run(tf.function(lambda: ipu.all_gather(tf.zeros([1]), 16), autograph=False))
        assert SYSTEM.config.auto_select_ipus == 4
        assert SYSTEM.config.experimental.multi_replica_distribution.process_index == 1
        assert SYSTEM.config.compilation_poplar_options == {"target.deterministicWorkers": "portable"}
    with installed(pod=Pod(replicas=4), horovod=horovod):
        strategy = rb.strategies.get("ipu_pod")
        assert rb.strategies.replicas(strategy) == strategy.num_replicas_in_sync == 4
        assert ipu.instances(strategy) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 0}, "replicas=0 must be an int of at least 1"),
        ({"ipus_per_replica": 3}, "ipus_per_replica=3 must be a power of two"),
        ({"connection": "later"}, "connection='later' is unknown; allowed: .*on_demand"),
        ({"connection": "never"}, "connection='never' needs version"),
        ({"version": "ipu3"}, "version='ipu3' is unknown; allowed: "),
        ({"stochastic_rounding": "on"}, "stochastic_rounding='on' is unknown; allowed: "),
        ({"tiles": 8}, r"has no options \['tiles'\]; allowed: \('replicas'"),
    ],
)
def test_options_that_are_not_allowed_are_named(double, options, message):
    with pytest.raises(ValueError, match=message):
        rb.strategies.get("ipu", **options)


def test_a_process_has_one_configuration(double):
    strategy = rb.strategies.get("ipu", replicas=2)
    assert rb.strategies.get("ipu", replicas=2) is strategy
    with pytest.raises(RuntimeError, match="has configured its IPUs for .*'replicas': 2.*one configuration"):
        rb.strategies.get("ipu", replicas=4)


def test_auto_takes_the_ipu_and_says_so(double, caplog):
    with caplog.at_level(logging.INFO, "random_bases"):
        assert rb.strategies.get("auto") is rb.strategies.get("ipu")
    assert '"auto" takes "ipu"' in caplog.text


# --- The rules of fit ---------------------------------------------------------------------------------


def _model(replicas=2, optimizer=None):
    strategy = rb.strategies.get("ipu", replicas=replicas)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(optimizer or keras.optimizers.SGD(1.0), "mse")
    return model


def _data(batches=8, **options):
    x = tf.data.Dataset.from_tensor_slices(
        (np.zeros([8 * batches, 4], np.float32), np.zeros([8 * batches, 2], np.float32))
    )
    return x.batch(8, **options)


def test_a_fit_within_the_rules_passes(double):
    ipu_fit.check_fit(
        _model(), _data(drop_remainder=True), steps_per_execution=4, gradient_accumulation_steps=2
    )


def test_a_model_made_elsewhere_is_refused(double):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="was not made in the scope of an IPU's strategy"):
        ipu_fit.check_fit(model, _data(drop_remainder=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_epoch": 7}, "steps_per_epoch=7 must be divisible by the 2 replicas"),
        ({"steps_per_execution": 3}, "steps_per_execution=3 must divide the 4 steps .* 2 replicas"),
        ({"steps_per_execution": 8}, "steps_per_execution=8 must divide the 4 steps"),
        (
            {"steps_per_execution": 2, "gradient_accumulation_steps": 4},
            "gradient_accumulation_steps=4 must divide steps_per_execution=2",
        ),
    ],
)
def test_steps_that_do_not_divide_are_refused(double, options, message):
    with pytest.raises(ValueError, match=message):
        ipu_fit.check_fit(_model(), _data(drop_remainder=True), **options)


def test_batches_without_static_shapes_sizes_or_types_are_refused(double):
    model = _model()
    with pytest.raises(ValueError, match=r"shape \(None, 4\).*drop_remainder=True"):
        ipu_fit.check_fit(model, _data())
    with pytest.raises(ValueError, match="string, which the IPU does not"):
        ipu_fit.check_fit(model, _data(drop_remainder=True).map(lambda x, y: (tf.as_string(x), y)))
    with pytest.raises(ValueError, match="needs a dataset of known size"):
        ipu_fit.check_fit(model, _data(drop_remainder=True).repeat())


def test_batches_of_float64_are_let_pass_as_keras_casts_them(double):
    model, data = _model(), _data(drop_remainder=True).map(lambda x, y: (tf.cast(x, tf.float64), y))
    ipu_fit.check_fit(model, data)
    model.fit(data)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(2)

    def call(self, inputs):
        return self.layer(inputs)


def _nested(model):
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    if model == "sequential":
        return keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2)])
    x = keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(2)(inner(x)))


@pytest.mark.parametrize("model", ["subclassed", "functional", "sequential"])
def test_models_that_are_not_built_or_nest_are_checked_and_train(double, model):
    with rb.strategies.get("ipu").scope():
        model = Subclassed() if model == "subclassed" else _nested(model)
        model.compile("sgd", "mse")
    data = _data(drop_remainder=True)
    ipu_fit.check_fit(model, data)
    model.fit(data)
    ipu_fit.check_fit(model, data)  # built, by now


def test_the_accumulation_that_leaves_the_update_out_is_refused_by_name(double):
    optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(1.0), dimensions=3, seed=0)
    model, data = _model(1, optimizer), _data(drop_remainder=True)
    model.compile(optimizer, "mse", steps_per_execution=2)
    model.set_gradient_accumulation_options(2, "mean", use_v2_gradient_accumulation_optimizer=True)
    message = "use_v2_gradient_accumulation_optimizer=True.*allowed: False"
    for model.optimizer in (keras.mixed_precision.LossScaleOptimizer(optimizer), optimizer):
        with pytest.raises(ValueError, match=message):
            ipu_fit.check_fit(model, data, steps_per_execution=2, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match=message):  # without asking first
        model.fit(data)
    model.set_gradient_accumulation_options(2, "mean")
    ipu_fit.check_fit(model, data, steps_per_execution=2, gradient_accumulation_steps=2)
    model.fit(data)


# --- Pipeline stages ----------------------------------------------------------------------------------


class ProjectedDense(keras.layers.Layer):
    """A dense layer in a fixed random subspace of its own (FPD)."""

    def __init__(self, units, inputs, dimensions, seed):
        super().__init__()
        self.shape = (inputs, units)
        self.theta0 = self.add_weight(name="theta0", shape=self.shape, trainable=False)
        basis = rb.bases.get("normal", inputs * units, dimensions, generator="native")
        self.change = rb.layers.RandomProjection(inputs * units, dimensions, basis, seed=seed)

    def call(self, inputs):
        return tf.matmul(inputs, self.theta0 + tf.reshape(self.change(), self.shape))


def _in_stages(stages, layers, optimizer, **options):
    """(the strategy, the model): each layer in a stage of its own, or all in none."""
    strategy = rb.strategies.get("ipu", **options)
    keras_api.set_random_seed(0)
    with strategy.scope():
        x = inputs = keras.Input((4,))
        for stage, layer in enumerate(layers()):
            with keras.ipu.PipelineStage(stage) if stages else contextlib.nullcontext():
                x = layer(x)
        model = keras.Model(inputs, x)
        model.compile(optimizer, "mse", steps_per_execution=2)
    return model


def _dense():
    return keras.layers.Dense(6, "tanh"), keras.layers.Dense(2)


def _projected():
    return ProjectedDense(6, 4, 5, seed=1), ProjectedDense(2, 6, 5, seed=2)


@pytest.mark.parametrize("layers", [_dense, _projected], ids=["SGD", "FPD"])
def test_pipelined_sgd_and_fpd_train_as_on_one_ipu(layers):
    x, y = np.random.default_rng(0).normal(size=[2, 16, 4]).astype(np.float32)
    weights = []
    for stages, options in ((False, {}), (True, {"ipus_per_replica": 2})):
        with installed():
            model = _in_stages(stages, layers, keras.optimizers.SGD(0.5), **options)
            method = "set_pipelining_options" if stages else "set_gradient_accumulation_options"
            getattr(model, method)(2, gradient_accumulation_reduction_method="mean")
            data = tf.data.Dataset.from_tensor_slices((x, y[:, :2])).batch(4, drop_remainder=True)
            ipu_fit.check_fit(model, data, steps_per_execution=2, gradient_accumulation_steps=2)
            model.fit(data)
            weights.append(model.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_what_cannot_be_pipelined_is_refused_by_name(double):
    sgd = keras.optimizers.SGD(1.0)
    model = _in_stages(True, _dense, sgd, ipus_per_replica=2)
    data = _data(drop_remainder=True)
    model.optimizer = rb.RandomBasesDescent(sgd, dimensions=5, seed=0)
    with pytest.raises(ValueError, match="RandomBasesDescent cannot train a model in pipeline stages"):
        ipu_fit.check_fit(model, data)
    with pytest.raises(ValueError, match="ipus_per_replica=2: RandomBasesDescent needs the gradients"):
        with model.distribute_strategy.scope():
            keras_api.build_optimizer(model.optimizer, model.trainable_variables)
    with pytest.raises(ValueError, match="ipus_per_replica=2 is for models in pipeline stages"):
        ipu_fit.check_fit(_in_stages(False, _dense, sgd, ipus_per_replica=2), data)


def test_a_subspace_model_cannot_be_pipelined(double):
    model = _in_stages(True, _dense, "sgd", ipus_per_replica=2)
    with model.distribute_strategy.scope():
        sub = rb.SubspaceModel(model, dimensions=3, seed=0)
        sub.compile("sgd", "mse")
    with pytest.raises(ValueError, match="SubspaceModel cannot train a model in pipeline stages"):
        ipu_fit.check_fit(sub, _data(drop_remainder=True))


def test_stages_of_a_nested_model_count(double):
    with rb.strategies.get("ipu", ipus_per_replica=2).scope():
        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
        inner.set_pipeline_stage_assignment([0, 1])
        model = keras.Sequential([keras.Input((4,)), inner])
        model.compile(rb.RandomBasesDescent("sgd", dimensions=3, seed=0), "mse")
    with pytest.raises(ValueError, match="RandomBasesDescent cannot train a model in pipeline stages"):
        ipu_fit.check_fit(model, _data(drop_remainder=True))


# --- What else is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: rb.ReplayLog("never.log"), lambda: rb.callbacks.SwitchToInner(1, 0.1)]
)
def test_callbacks_that_need_the_stock_loop_are_refused_by_name(double, make):
    callback = make()
    callback.set_model(_model(optimizer=rb.RandomBasesDescent("sgd", dimensions=3, seed=0)))
    with pytest.raises(ValueError, match=f"{type(callback).__name__}, which .* does not work on the IPU"):
        callback.on_train_begin()


def test_directions_shared_out_over_a_pod_are_refused():
    from random_bases.averaging.sharding import share_out

    with installed(pod=Pod(2)), rb.strategies.get("ipu_pod").scope():
        with pytest.raises(ValueError, match="TrainableWeightAveraging .* does not work on the IPU"):
            share_out(np.eye(4), np.eye(4, dtype=np.float32))
