"""The double of Graphcore's TensorFlow: what the contract has, and behind it R executions."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from random_bases.keras_api import keras
from tests.poplar import contract, device_ops, surface
from tests.poplar.double import Pod, installed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ipu():
    with installed():
        from tensorflow.python import ipu

        yield ipu


def strategy_of(ipu, replicas, **options):
    config = ipu.config.IPUConfig()
    config.auto_select_ipus = replicas
    config.configure_ipu_system()
    return ipu.ipu_strategy.IPUStrategy(**options)


# --- Its surface --------------------------------------------------------------------------------------


def test_it_is_not_there_outside():
    with pytest.raises(ImportError):
        from tensorflow.python import ipu
    with installed():
        from tensorflow.python import ipu
    with pytest.raises(ImportError):
        from tensorflow.python import ipu  # noqa: F401
    assert not hasattr(keras.Model, "set_replication_options")


def test_nothing_but_pytest_can_import_it():
    command = [sys.executable, "-c", "import tests.poplar.double"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "tests.poplar is for tests only" in done.stderr


def test_every_name_is_the_contracts():
    known = set()
    for name, entry in contract.SYMBOLS.items():
        known |= {name, *entry.get("also_reachable_as", ())}
    for path, module in surface.modules(None).items():
        for name, value in vars(module).items():
            if not name.startswith("__") and not inspect.ismodule(value):
                assert f"{path}.{name}" in known


def test_unknown_names_arguments_and_options_are_refused(ipu):
    with pytest.raises(AttributeError):
        ipu.utils.create_ipu_config()
    with pytest.raises(ImportError):
        from tensorflow.python.ipu import horovod  # noqa: F401
    with pytest.raises(TypeError, match="replication_index.*unexpected"):
        ipu.replication_ops.replication_index(group=1)
    with pytest.raises(NotImplementedError, match="reset_ipu_seed"):
        ipu.utils.reset_ipu_seed(1)
    config = ipu.config.IPUConfig()
    with pytest.raises(ValueError, match="no option 'floating_point_behaviour.esrr'"):
        config.floating_point_behaviour.esrr = True
    with pytest.raises(TypeError, match="must be StochasticRoundingBehaviour"):
        config.floating_point_behaviour.esr = True
    with pytest.raises(TypeError, match="is a category"):
        config.device_connection = "never"
    with pytest.raises(TypeError, match="must be bool"):
        config.allow_recompute = 1
    with pytest.raises(TypeError, match="enable_keras"):
        config.configure_ipu_system()
        ipu.ipu_strategy.IPUStrategy(enable_keras=False)


def test_a_strategy_needs_a_configured_system(ipu):
    with pytest.raises(RuntimeError, match="configure_ipu_system"):
        ipu.ipu_strategy.IPUStrategy()


# --- Its programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_every_replica_has_its_index_its_variables_and_all_sums(ipu, replicas):
    strategy = strategy_of(ipu, replicas)
    with strategy.scope():
        total, own = tf.Variable(0.0), tf.Variable(0)

    @tf.function
    def program():
        index = ipu.replication_ops.replication_index()
        own.assign_add(index + 1)
        for _ in tf.range(3):
            total.assign_add(ipu.cross_replica_ops.cross_replica_sum(tf.cast(index + 1, tf.float32)))
        return ipu.all_to_all_op.all_gather(index, replication_factor=replicas)

    np.testing.assert_array_equal(strategy.run(program), range(replicas))
    strategy.run(program)
    of_all = replicas * (replicas + 1) / 2
    assert strategy.double.values(total) == [6 * of_all] * replicas
    assert strategy.double.values(own) == [2 * (r + 1) for r in range(replicas)]
    own.assign(10)  # the host writes to all of them
    strategy.run(program)
    assert strategy.double.values(own) == [11 + r for r in range(replicas)]


def test_replicas_take_turns_at_the_data(ipu):
    strategy = strategy_of(ipu, 2)
    with strategy.scope():
        seen = tf.Variable([0, 0])
        iterator = iter(tf.data.Dataset.range(4).map(lambda i: tf.cast(i, tf.int32)))

    @tf.function
    def program(iterator):
        seen.assign(tf.stack([next(iterator), next(iterator)]))

    strategy.run(program, (iterator,))
    np.testing.assert_array_equal(strategy.double.values(seen), [[0, 2], [1, 3]])


def test_what_a_program_returns_is_the_first_replicas(ipu):
    index = strategy_of(ipu, 2).run(tf.function(lambda: ipu.replication_ops.replication_index()))
    assert int(index) == 0


def test_the_number_of_ipus_is_numpys(ipu):
    strategy_of(ipu, 2)
    assert type(ipu.utils.get_num_of_ipus_in_device("/device:IPU:0")) is np.int64


def test_tf_distribute_reduces_by_sums_over_replicas_it_does_not_know(ipu):
    strategy = strategy_of(ipu, 2)
    assert strategy.num_replicas_in_sync == 1

    @tf.function
    def program():
        context = tf.distribute.get_replica_context()
        return context.all_reduce("sum", tf.constant(1.0)), context.all_reduce("mean", tf.constant(1.0))

    assert [float(value) for value in strategy.run(program)] == [2.0, 1.0]


def test_what_a_program_cannot_be_is_refused(ipu):
    strategy = strategy_of(ipu, 1)
    with pytest.raises(RuntimeError, match="takes a tf.function"):
        strategy.run(lambda: tf.constant(1.0))
    with pytest.raises(TypeError, match="float64"):
        strategy.run(tf.function(lambda x: tf.cast(x, tf.float32)), (tf.constant(1.0, tf.float64),))
    for forbidden, name in (
        (
            lambda: tf.cast(tf.bitcast(tf.constant(1), tf.uint32) * tf.constant(2, tf.uint32), tf.int32),
            "uint32",
        ),
        (lambda: tf.linalg.qr(tf.eye(2))[0], "Qr"),
        (lambda: tf.random.experimental.stateless_fold_in(tf.constant([1, 2]), 3), "FullInt"),
        (lambda: tf.where(tf.constant([True, False])), "Where"),
        (lambda: tf.math.real(tf.complex(1.0, 2.0)), "complex64"),
    ):
        with pytest.raises(NotImplementedError, match=name):
            strategy.run(tf.function(forbidden))
    with pytest.raises(RuntimeError, match="in programs for the IPU only"):
        ipu.replication_ops.replication_index()


def test_the_walk_finds_int64_arithmetic_in_inner_functions():
    inner = tf.function(lambda x: x * 2, jit_compile=True)
    outer = tf.function(lambda x: tf.cast(inner(x), tf.int32))
    graph = outer.get_concrete_function(tf.TensorSpec([2], tf.int64)).graph
    assert device_ops.forbidden(graph) == {"int64 arithmetic in Mul"}
    assert device_ops.forbidden(graph, int64=True) == set()


def _draws(strategy, seed, shape=(3, 4)):
    return strategy.run(tf.function(lambda seed: tf.random.stateless_normal(shape, seed)), (seed,)).numpy()


def test_samples_are_a_function_of_seed_and_shape(ipu):
    strategy = strategy_of(ipu, 2)
    first = _draws(strategy, tf.constant([1, 2]))
    np.testing.assert_array_equal(first, _draws(strategy, tf.constant([1, 2])))
    assert np.all(first != _draws(strategy, tf.constant([1, 3])))
    assert np.all(first[0, :2] != _draws(strategy, tf.constant([1, 2]), (2,)))
    with pytest.raises(TypeError, match="takes int32"):
        _draws(strategy, tf.constant([1, 2], tf.int64))


def test_on_the_ipu_model_every_seed_gives_the_same():
    with installed(flags="--use_ipu_model"):
        from tensorflow.python import ipu

        assert ipu.utils.running_on_ipu_model()
        strategy = strategy_of(ipu, 1)
        a, b = _draws(strategy, tf.constant([1, 2])), _draws(strategy, tf.constant([3, 4]))
    np.testing.assert_array_equal(a, b)


# --- Its Keras ----------------------------------------------------------------------------------------


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


def _model(strategy, cls=keras.Sequential, optimizer=None, **compilation):
    with strategy.scope():
        model = cls([keras.Input((2,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
        model.compile(optimizer or keras.optimizers.SGD(0.1), "mse", **compilation)
    return model


X, Y = np.ones([8, 2], np.float32), np.zeros([8, 1], np.float32)


@pytest.mark.parametrize("replicas", [1, 2])
def test_keras_sums_gradients_over_replicas(ipu, replicas):
    model = _model(strategy_of(ipu, replicas))
    model.fit(X, Y, batch_size=4, steps_per_epoch=replicas)
    # The gradient of (w1 + w2)^2 at (1, 1) is 4.
    np.testing.assert_allclose(model.get_weights()[0], 1 - 0.4 * replicas, rtol=1e-6)


def test_under_poprun_keras_divides_the_loss():
    with installed(pod=Pod(2)):
        from tensorflow.python import ipu
        from tensorflow.python.ipu.distributed import popdist_strategy

        ipu.config.IPUConfig().configure_ipu_system()
        strategy = popdist_strategy.PopDistStrategy()
        assert strategy.num_replicas_in_sync == 2
        model = _model(strategy)
        model.fit(X, Y, batch_size=4, steps_per_epoch=2)
    np.testing.assert_allclose(model.get_weights()[0], 0.6, rtol=1e-6)


def test_steps_of_one_execution_equal_single_ones_and_metrics_are_the_last_replicas(ipu):
    strategy = strategy_of(ipu, 2)
    results = []
    for each in (1, 2):
        model = _model(strategy, steps_per_execution=each, metrics=["mae"])
        x = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
        history = model.fit(x, Y, batch_size=2, epochs=2)
        results.append([*model.get_weights(), *history.history["mae"]])
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    assert results[0][1:] == pytest.approx(results[1][1:])
    last = np.concatenate([x[2:4], x[6:8]])
    model = _model(strategy, optimizer=keras.optimizers.SGD(0.0), metrics=["mae"])
    found = model.fit(x, Y, batch_size=2).history["mae"]
    assert found == pytest.approx([last.sum(axis=1).mean()])


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_are_accumulated(ipu, reduction):
    model = _model(strategy_of(ipu, 1), steps_per_execution=2)
    model.set_gradient_accumulation_options(2, gradient_accumulation_reduction_method=reduction)
    model.fit(X, Y, batch_size=4)
    np.testing.assert_allclose(model.get_weights()[0], 1 - 0.4 * (2 if reduction == "sum" else 1), rtol=1e-6)
    assert int(model.optimizer.iterations) == 1


class OwnCall(keras.Model):
    def __init__(self):
        super().__init__()
        self.called, self.idle = keras.layers.Dense(1), keras.layers.Dense(1)
        self.seen = []

    def call(self, inputs):
        self.seen.append(type(inputs).__name__)
        return self.called(inputs)


def test_subclassed_models_are_traced_with_symbolic_inputs_first(ipu):
    with strategy_of(ipu, 2).scope():
        model = OwnCall()
        model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="not been built"):
        model.get_pipeline_stage_assignment()
    model.fit(X, Y, batch_size=4)
    assert model.seen[0] == "KerasTensor"
    assert [layer.name for layer in model.layers][1:] == [model.called.name]
    (assignment,) = model.get_pipeline_stage_assignment()
    assert (assignment.layer, assignment.node_index) == (model.called, 0)
    assert model.predict(X, batch_size=4).shape == (8, 1)


def test_stages_can_be_set_of_sequential_models_and_of_models_in_models(ipu):
    strategy = strategy_of(ipu, 2)
    with strategy.scope():
        inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(2)])
        model = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=2)
    nested, last = assignments = model.get_pipeline_stage_assignment()
    with pytest.raises(ValueError, match="Every layer must be in a stage"):
        model.set_pipeline_stage_assignment(assignments)
    for assignment in nested.pipeline_stage_assignments:
        assignment.pipeline_stage = 0
    last.pipeline_stage = 1
    model.set_pipeline_stage_assignment(assignments)
    model.set_pipelining_options(2, gradient_accumulation_reduction_method="mean")
    model.fit(X, Y, batch_size=4)
    assert strategy.double.count == 1  # of 2 IPUs
    with pytest.raises(ValueError, match="Stages must be 0, 1"):
        inner.set_pipeline_stage_assignment([0, 2])


def test_models_made_in_the_scope_have_another_class(ipu):
    model = _model(strategy_of(ipu, 1), OwnStep)
    assert type(model) is not OwnStep and isinstance(model, OwnStep)
    assert type(model).__original_class__ is OwnStep
    assert not hasattr(keras.Sequential([keras.layers.Dense(1)]), "set_replication_options")


def test_fit_refuses_what_the_ipus_refuses(ipu):
    strategy = strategy_of(ipu, 2)
    with pytest.raises(RuntimeError, match="cannot override train_step"):
        _model(strategy, OwnStep).fit(X, Y, batch_size=4)
    with pytest.raises(ValueError, match="cannot be divided into batches of 3"):
        _model(strategy).fit(X, Y, batch_size=3)
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    with pytest.raises(ValueError, match="drop_remainder"):
        _model(strategy).fit(data.batch(4))
    with pytest.raises(ValueError, match="does not divide"):
        _model(strategy, steps_per_execution=3).fit(X, Y, batch_size=1)
    model = _model(strategy)
    model.set_infeed_queue_options(prefetch_depth=2)
    with pytest.raises(TypeError, match="depth"):
        model.set_outfeed_queue_options(depth=2)
    with pytest.raises(NotImplementedError, match="set_asynchronous_callbacks"):
        model.set_asynchronous_callbacks(True)
