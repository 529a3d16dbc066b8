"""Which Keras is chosen, and that importing the package does nothing else."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from random_bases import keras_api
from random_bases.keras_api import GENERATION, KERAS_VERSION, keras

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}


def python(source, **environment):
    """Runs `source` in a new process; returns it."""
    return subprocess.run(
        [sys.executable, "-c", source],
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_generation_is_that_of_tf_keras():
    assert tf.keras.Model is keras.Model
    assert tuple(int(n) for n in keras.__version__.split(".")[:2]) == KERAS_VERSION
    expected = "keras3" if KERAS_VERSION >= (3, 0) else "keras2.6" if KERAS_VERSION == (2, 6) else "tf_keras"
    assert expected == GENERATION
    if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
        assert GENERATION != "keras3"


def refused(done):
    """The last line of the error of an import that was refused."""
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: random_bases ")
    return last


@pytest.mark.skipif(GENERATION != "keras3", reason="only Keras 3 has backends")
def test_another_backend_is_refused(tmp_path):
    # One that is not installed, of the environment and of keras.json, and one that is.
    assert "KERAS_BACKEND=tensorflow" in refused(python("import random_bases", KERAS_BACKEND="jax"))
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert "KERAS_BACKEND=tensorflow" in refused(python("import random_bases", KERAS_HOME=str(tmp_path)))
    done = python("import keras; keras.config.backend = lambda: 'jax'; import random_bases")
    assert "needs Keras on TensorFlow, but Keras runs on 'jax'" in refused(done)


@pytest.mark.skipif(GENERATION == "keras3", reason="Keras 3 has backends")
def test_a_keras_without_backends_ignores_their_name():
    done = python("import random_bases", KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(GENERATION != "keras3", reason="of Keras 3")
def test_an_old_keras_3_is_refused():
    done = python("import keras; keras.__version__ = '3.9.2'; import random_bases")
    assert "does not know Keras 3.9.2; allowed: Keras >= 3.10" in refused(done)


IMPORT = """
import os, random, sys
import numpy as np
import tensorflow as tf

def state():
    mixed = tf.keras.mixed_precision
    policy = mixed.global_policy() if hasattr(mixed, "global_policy") else mixed.dtype_policy()
    return (random.getstate(), np.random.get_state()[1].tobytes(), tf.keras.backend.floatx(), policy.name,
            tf.config.functions_run_eagerly(), dict(os.environ))

made = []
original = tf.Variable.__init__

def counted(self, *args, **kwargs):
    made.append(self)
    original(self, *args, **kwargs)

tf.Variable.__init__ = counted
before = state()
import random_bases
assert state() == before
assert not made, made
assert "experiments" not in sys.modules
# Once its context is initialised, TensorFlow refuses to be configured.
tf.config.threading.set_inter_op_parallelism_threads(3)
tf.config.set_visible_devices([], "GPU")
"""


def test_importing_makes_no_variables_and_changes_nothing():
    done = python(IMPORT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_set_random_seed_makes_initial_weights_reproducible():
    def weights(seed):
        keras_api.set_random_seed(seed)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
        return np.concatenate([w.ravel() for w in model.get_weights()])

    np.testing.assert_array_equal(weights(7), weights(7))
    assert not np.array_equal(weights(7), weights(8))


def test_set_random_seed_seeds_python_numpy_and_tensorflow():
    def draws():
        keras_api.set_random_seed(5)
        return random.random(), np.random.rand(), float(tf.random.uniform([]))

    assert draws() == draws()


def test_registered_classes_keep_their_name_across_generations():
    # What a saved model refers to: never change it.
    from random_bases import RandomBasesDescent

    registered = keras.utils.get_registered_name(RandomBasesDescent)
    assert registered == "random_bases>RandomBasesDescent"


def test_compile_model_and_build_optimizer():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    keras_api.compile_model(model, jit_compile=False, optimizer=optimizer, loss="mse")
    keras_api.build_optimizer(optimizer, model.trainable_variables)
    variables = optimizer.variables() if callable(optimizer.variables) else optimizer.variables
    # A momentum for each of the two, beside iterations and, on some, the learning rate.
    assert sorted(tuple(v.shape) for v in variables if len(v.shape)) == [(3, 4), (4,)]
