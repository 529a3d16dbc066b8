"""Logs of runs: replayed bit for bit; what is broken, foreign or incomplete is refused."""

import contextlib
import hashlib
import json
import struct

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import locks, sampling
from random_bases.keras_api import GENERATION, keras, set_random_seed
from random_bases.replay.format import Log
from tests.lock_holder import holding
from tests.optimizers.helpers import (
    assert_close,
    assert_differ,
    assert_equal,
    compile_,
    data,
    dense_model,
    fit,
    needs_keras,
)

SGD = keras.optimizers.SGD
STEPS = 8  # of two epochs


class KeepWeights(keras.callbacks.Callback):
    """The weights after every step, as a test sees them."""

    def on_train_begin(self, logs=None):
        self.after = [self.model.get_weights() if self.model.built else None]

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.get_weights())


def optimizer(inner=None, **arguments):
    arguments = {"dimensions": 5, "basis": "rademacher", "seed": 3, **arguments}
    return rb.RandomBasesDescent(inner or SGD(0.5, momentum=0.9), **arguments)


def logged(
    path, inner=None, epochs=2, callbacks=(), build=dense_model, mode="graph", compiling=(), **arguments
):
    """A model trained with a log at `path`."""
    model = build()
    compile_(model, optimizer(inner, **arguments), mode, **dict(compiling))
    kept = KeepWeights()
    fit(model, epochs, callbacks=[*callbacks, kept, rb.ReplayLog(path)])
    model.after = kept.after
    return model


def assert_weights(model, weights):
    assert len(model.get_weights()) == len(weights)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(a, b)


@needs_keras((3, 0), "float8")
def test_logs_of_float8_models_are_of_the_weights_that_gradients_move(tmp_path):
    """Scales and their history are Keras's; it sets them in each forward and backward pass."""

    def float8_model():
        model = dense_model()
        for layer in model.layers:
            layer.quantize("float8")
        return model

    model = logged(tmp_path / "run.log", build=float8_model)
    again, start = (rb.replay(tmp_path / "run.log", float8_model(), step) for step in (None, 0))
    for layer, replayed, untrained in zip(model.layers, again.layers, start.layers):
        for name in ("kernel", "bias"):
            expected = getattr(layer, name).numpy()
            np.testing.assert_array_equal(getattr(replayed, name).numpy(), expected)
            assert np.abs(getattr(untrained, name).numpy() - expected).max() > 1e-3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(path of a log, its trained model)."""
    path = tmp_path_factory.mktemp("replay") / "run.log"
    return path, logged(path)


def altered(path, tmp_path, change):
    content = bytearray(path.read_bytes())
    other = tmp_path / "altered.log"
    other.write_bytes(change(content))
    return other


# --- Replay equals the run ------------------------------------------------------------------------


def test_every_step_is_rebuilt_bit_for_bit(run):
    path, model = run
    assert len(model.after) == STEPS + 1
    for step in (0, 1, 5, STEPS):
        assert_weights(rb.replay(path, dense_model(), step), model.after[step])
    assert_equal(rb.replay(path, dense_model()), model)
    assert_differ(model, dense_model())


def test_a_log_is_d_floats_a_step(run):
    path, _ = run
    content = path.read_bytes()
    (header,) = struct.unpack("<I", content[8:12])
    records = STEPS * (1 + 8 + 4 + 4 * 5 + 16) + 2 * (1 + 8 + 32 + 16) + (1 + 8 + 16)
    assert len(content) == 12 + header + 32 + records


def redrawn(path, basis="kronecker", epochs=2, model=None, resumed=None):
    """(weights after every step, wrapped model, `SubspaceModel`) of a run with a log at `path`."""
    network = dense_model() if model is None else model
    sub = rb.SubspaceModel(network, 9, basis=basis, seed=3, redraw_every=3)
    compile_(sub, keras.optimizers.Adam(0.05), "graph")
    if resumed is not None:
        x, y = data()
        sub.fit(x[:1], y[:1], verbose=0)  # so that the optimizer is built
        tf.train.Checkpoint(model=sub, optimizer=sub.optimizer).restore(resumed)
    after = [network.get_weights()]
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: after.append(network.get_weights())
    )
    fit(sub, epochs, callbacks=[keep, rb.ReplayLog(path)])
    return after, network, sub


@pytest.mark.parametrize("basis", ["kronecker", pytest.param("hadamard", marks=pytest.mark.slow)])
def test_every_step_of_a_subspace_model_with_redraws_is_rebuilt_bit_for_bit(tmp_path, basis):
    after, network, _ = redrawn(tmp_path / "log", basis)
    for step in (0, 1, 4, STEPS):
        assert_weights(rb.replay(tmp_path / "log", dense_model(), step), after[step])
    assert_differ(network, dense_model())
    with pytest.raises(rb.ReplayError, match="theta0"):
        rb.replay(tmp_path / "log", network)


def test_the_log_of_a_subspace_model_goes_on(tmp_path):
    _, _, sub = redrawn(tmp_path / "log", epochs=1)
    saved = tf.train.Checkpoint(model=sub, optimizer=sub.optimizer).save(str(tmp_path / "saved"))
    after, network, _ = redrawn(tmp_path / "log", epochs=1, resumed=saved)
    assert_equal(rb.replay(tmp_path / "log", dense_model()), network)
    assert_weights(rb.replay(tmp_path / "log", dense_model(), STEPS // 2), after[0])
    with pytest.raises(ValueError, match="not in|does not exist"):
        redrawn(tmp_path / "other", epochs=1, resumed=saved)
    with pytest.raises(rb.ReplayError, match="another run"):
        redrawn(tmp_path / "log", "hadamard", epochs=1)


ADAM = {"adam": lambda: keras.optimizers.Adam(0.05)}
INNER = {
    **ADAM,
    "schedule": lambda: SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5), momentum=0.9),
    "clipnorm": lambda: SGD(0.5, clipnorm=0.05),
}


@pytest.mark.parametrize("inner", INNER)
def test_the_inner_optimizer_may_have_state(inner, tmp_path):
    model = logged(tmp_path / "log", INNER[inner]())
    assert_equal(rb.replay(tmp_path / "log", dense_model()), model)


@pytest.mark.parametrize(
    "basis",
    [
        "normal",
        "hadamard",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("orthogonal", "fastfood")),
    ],
)
def test_other_bases(basis, tmp_path):
    model = logged(tmp_path / "log", basis=basis, redraw_every=2, epochs=1)
    assert_equal(rb.replay(tmp_path / "log", dense_model()), model)


def test_learning_rates_that_callbacks_set_are_in_the_log(tmp_path):
    rates = keras.callbacks.LearningRateScheduler(lambda epoch, _: [0.5, 0.01][epoch])
    model = logged(tmp_path / "log", SGD(1.0), callbacks=[rates])
    assert_equal(rb.replay(tmp_path / "log", dense_model()), model)


@needs_keras((2, 11), "use_ema")
def test_averages_of_the_weights_are_not_what_is_replayed(tmp_path):
    """Keras puts them in the weights' place when `fit` ends."""
    model = logged(tmp_path / "log", SGD(0.5, use_ema=True), epochs=1)
    replayed = rb.replay(tmp_path / "log", dense_model())
    assert_weights(replayed, model.after[-1])
    assert_differ(replayed, model)


def test_several_steps_per_execution(tmp_path):
    model = logged(tmp_path / "log", compiling={"steps_per_execution": 4})
    assert_equal(rb.replay(tmp_path / "log", dense_model()), model)
    assert_weights(rb.replay(tmp_path / "log", dense_model(), 4), model.after[1])


def test_variables_without_gradient_stay(tmp_path):
    def build():
        set_random_seed(0)

        class Layer(keras.layers.Dense):
            def build(self, shape):
                super().build(shape)
                self.unused = self.add_weight(name="unused", shape=(3,), initializer="ones")

        return keras.Sequential([keras.Input((5,)), Layer(4)])

    model = logged(tmp_path / "log", SGD(0.5), build=build, dimensions=4)
    assert_equal(rb.replay(tmp_path / "log", build()), model)


class Uncalled(keras.Model):
    """Its weights are made in the first step."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_models_that_fit_builds(tmp_path, mode):
    def build():
        set_random_seed(0)
        return Uncalled() if mode == "graph" else keras.Sequential([keras.layers.Dense(4)])

    model = logged(tmp_path / "log", SGD(0.5), build=build, mode=mode, dimensions=4, epochs=1)
    fit(model, 1, callbacks=[rb.ReplayLog(tmp_path / "log")])
    start = build()
    start(data()[0])
    assert_equal(rb.replay(tmp_path / "log", start), model)


def test_a_second_fit_goes_on_with_the_log(tmp_path):
    model = logged(tmp_path / "log", epochs=1)
    fit(model, 1, callbacks=[rb.ReplayLog(tmp_path / "log")])
    assert_equal(rb.replay(tmp_path / "log", dense_model()), model)
    assert_weights(rb.replay(tmp_path / "log", dense_model(), 4), model.after[-1])


def test_steps_beyond_a_restored_checkpoint_are_dropped(tmp_path):
    """A run killed after its last checkpoint repeats steps: the log holds each once."""
    weights = logged(tmp_path / "log", SGD(0.5), epochs=2).get_weights()
    model = logged(tmp_path / "first epoch", SGD(0.5), epochs=1)
    fit(model, 1, callbacks=[rb.ReplayLog(tmp_path / "log")])
    assert_weights(rb.replay(tmp_path / "log", dense_model()), weights)


# --- What is refused ------------------------------------------------------------------------------


def test_an_altered_record_is_refused_and_what_is_before_kept(run, tmp_path):
    path, model = run
    size = 1 + 8 + 4 + 4 * 5 + 16

    def change(content):
        (header,) = struct.unpack("<I", content[8:12])
        content[12 + header + 32 + 2 * size + 20] ^= 1  # a coordinate of the third step
        return content

    broken, fresh = altered(path, tmp_path, change), dense_model()
    for step in (None, 3, STEPS):
        with pytest.raises(rb.DamagedLogError, match=r"altered at record 2, .* give step=2"):
            rb.replay(broken, fresh, step)
    assert_equal(fresh, dense_model())
    assert_weights(rb.replay(broken, fresh, 2), model.after[2])


def test_records_cannot_be_exchanged_or_removed(run, tmp_path):
    path, _ = run
    size = 1 + 8 + 4 + 4 * 5 + 16
    (header,) = struct.unpack("<I", path.read_bytes()[8:12])
    begin = 12 + header + 32
    second, third = begin + size, begin + 2 * size

    def exchange(c):
        return c[:second] + c[third : third + size] + c[second:third] + c[third + size :]

    for change in (exchange, lambda c: c[:second] + c[third:]):
        with pytest.raises(rb.DamagedLogError, match="at record 1"):
            rb.replay(altered(path, tmp_path, change), dense_model())


@pytest.mark.parametrize("left", [-1, -17, -30])
def test_truncated_logs_are_refused(run, tmp_path, left):
    path, model = run
    short = altered(path, tmp_path, lambda content: content[:left])
    with pytest.raises(rb.DamagedLogError, match="give step=8"):
        rb.replay(short, dense_model())
    assert_equal(rb.replay(short, dense_model(), STEPS), model)


def test_a_log_cut_between_two_records_has_no_end(run, tmp_path):
    path, _ = run
    short = altered(path, tmp_path, lambda content: content[: -(1 + 8 + 16)])
    with pytest.raises(rb.DamagedLogError, match="has no end"):
        rb.replay(short, dense_model())


@pytest.mark.parametrize("position", [3, 9, 40])
def test_altered_headers_are_refused(run, tmp_path, position):
    def change(content):
        content[position] ^= 1
        return content

    with pytest.raises(rb.DamagedLogError, match="header|not a file"):
        rb.replay(altered(run[0], tmp_path, change), dense_model())


def test_bytes_after_the_end_are_refused_and_what_is_before_kept(run, tmp_path):
    path, model = run
    for more in (b"\0", b"E", path.read_bytes()[-(1 + 8 + 16) :]):
        longer = altered(path, tmp_path, lambda content, more=more: content + more)
        with pytest.raises(
            rb.DamagedLogError, match=f"has {len(more)} bytes after its end.* give step={STEPS}"
        ):
            rb.replay(longer, dense_model())
        assert_weights(rb.replay(longer, dense_model(), step=STEPS), model.after[-1])


def forged(path, tmp_path, change):
    """A log with another header and the right hashes."""
    content = path.read_bytes()
    header = json.loads(content[12 : 12 + int.from_bytes(content[8:12], "little")].decode())
    encoded = json.dumps(change(header)).encode()
    begin = content[:8] + len(encoded).to_bytes(4, "little") + encoded
    other = tmp_path / "forged.log"
    other.write_bytes(begin + hashlib.sha256(begin).digest())
    return other


VALUES = (None, -1, "x", [], {}, [-1])


def test_forged_headers_are_refused_by_name(run, tmp_path):
    """Without a name, with values of any shape: an error of ours that names the file."""
    header = json.loads(json.dumps(Log(str(run[0])).header))
    changes = [lambda h, name=name: {k: v for k, v in h.items() if k != name} for name in header]
    changes += [lambda h, n=name, v=value: {**h, n: v} for name in header for value in VALUES]
    changes += [lambda h, v=value: v for value in VALUES]
    wrong = {"inner_optimizer": {"class_name": "SGD", "config": {"learning_rate": "fast"}}}
    changes += [lambda h: {**h, "optimizer": {**h["optimizer"], **wrong}}]
    for change in changes:
        if change(header) in (header, {**header, "rule": {}}):  # which a replay does not ask
            continue
        path = forged(run[0], tmp_path, change)
        model = dense_model()
        with pytest.raises(rb.ReplayError, match="log='.*forged.log"):
            rb.replay(path, model, step=0)
            pytest.fail(f"accepted: {change(header)}")
        assert_equal(model, dense_model())


def test_what_is_no_model_is_named(run):
    with pytest.raises(TypeError, match="model='x' must be a keras.Model"):
        rb.replay(run[0], "x")


def test_other_weights_and_architectures_are_refused(run):
    with pytest.raises(rb.ReplayError, match="theta0_sha256"):
        rb.replay(run[0], dense_model(seed=1))
    with pytest.raises(rb.ReplayError, match="variables"):
        rb.replay(run[0], keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]))


def test_other_streams_are_refused(run, monkeypatch):
    monkeypatch.setattr("random_bases.sampling.STREAM_VERSION", sampling.STREAM_VERSION + 1)
    monkeypatch.setitem(rb.replay.__globals__, "STREAM_VERSION", sampling.STREAM_VERSION)
    with pytest.raises(rb.ReplayError, match="stream_version"):
        rb.replay(run[0], dense_model())


def test_wrong_results_are_noticed(run, monkeypatch):
    """As of a machine that computes otherwise: the hashes after each epoch."""
    path, model = run
    expand = rb.Subspace.expand
    monkeypatch.setattr(
        rb.Subspace, "expand", lambda *arguments: [part * (1 + 2**-20) for part in expand(*arguments)]
    )
    fresh = dense_model()
    with pytest.raises(rb.ReplayError, match="weights after 4 steps are not those of the run"):
        rb.replay(path, fresh)
    assert_equal(fresh, dense_model())


def test_numpys_integers_are_steps(run):
    assert_weights(rb.replay(run[0], dense_model(), np.int64(5)), run[1].after[5])


@pytest.mark.parametrize("step", [-1, 9, 1.0, True])
def test_bad_steps_are_named(run, step):
    with pytest.raises(ValueError if type(step) is int else TypeError, match=f"step={step!r}"):
        rb.replay(run[0], dense_model(), step)


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no jit_compile")
def test_compiled_steps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="jit_compile=False"):
        logged(tmp_path / "log", mode="xla")


@needs_keras((2, 11), "weight decay")
def test_variables_excluded_from_weight_decay_are_refused(tmp_path):
    """The configuration, and so the log, does not tell which."""
    model = dense_model()
    compile_(model, optimizer(SGD(0.5, weight_decay=0.1)), "graph")
    model.optimizer.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match="exclude_from_weight_decay"):
        fit(model, callbacks=[rb.ReplayLog(tmp_path / "log")])
    assert not (tmp_path / "log").exists()


def test_other_optimizers_and_updates_are_refused(tmp_path):
    model = dense_model()
    compile_(model, SGD(0.1), "graph")
    with pytest.raises(TypeError, match="must be a RandomBasesDescent"):
        fit(model, callbacks=[rb.ReplayLog(tmp_path / "log")])
    with pytest.raises(ValueError, match='exchange="updates"'):
        logged(tmp_path / "log", replicas="split", exchange="updates")


def test_a_log_must_begin_with_the_first_step(tmp_path):
    model = dense_model()
    compile_(model, optimizer(), "graph")
    fit(model, 1)
    with pytest.raises(ValueError, match="has made 4 steps"):
        fit(model, 1, callbacks=[rb.ReplayLog(tmp_path / "log")])


def test_the_log_of_another_run_is_not_gone_on_with(tmp_path):
    logged(tmp_path / "log", epochs=1)
    model = dense_model()
    compile_(model, optimizer(seed=4), "graph")
    fit(model, 1)
    with pytest.raises(rb.ReplayError, match=r"another run: it differs in \['rule'\]"):
        fit(model, 1, callbacks=[rb.ReplayLog(tmp_path / "log")])


@pytest.mark.parametrize(
    ("seed", "arguments", "difference"),
    [
        (0, {"seed": 4}, "rule"),
        (1, {}, "theta0_sha256"),
        (0, {"inner": SGD(0.5, momentum=0.8)}, "optimizer"),
        (0, {"inner": SGD(0.4, momentum=0.9)}, "optimizer"),  # known once callbacks have set theirs
    ],
    ids=["seed", "theta0", "momentum", "learning_rate"],
)
def test_the_log_of_another_run_is_not_overwritten(run, tmp_path, seed, arguments, difference):
    path = altered(run[0], tmp_path, lambda content: content)
    with pytest.raises(rb.ReplayError, match=rf"another run: it differs in \['{difference}'\]"):
        logged(path, build=lambda: dense_model(seed), epochs=1, **arguments)
    assert path.read_bytes() == run[0].read_bytes()


def test_another_file_is_not_overwritten(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(rb.ReplayError, match="not a file that ReplayLog wrote"):
        logged(tmp_path / "notes", epochs=1)
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_run_that_begins_again_writes_its_log_anew(run, tmp_path):
    path = altered(run[0], tmp_path, lambda content: content[:-60])  # killed before its first checkpoint
    model = logged(path)
    assert_equal(rb.replay(path, dense_model()), model)
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / f"{path.name}.lock"]


def test_a_log_that_another_process_writes_is_refused(run, tmp_path):
    path = tmp_path / "run.log"
    left = tmp_path / "run.log.77.tmp"  # of a kill
    left.touch()
    with holding(path), pytest.raises(locks.InUseError, match=str(path)):
        logged(path)
    assert not path.exists() and left.exists()
    logged(path)
    assert not left.exists()
    with holding(path):  # it was released
        assert_weights(rb.replay(path, dense_model()), run[1].after[-1])


def test_a_callback_that_an_error_ended_writes_another_log_with_another_model(run, tmp_path):
    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    log = rb.ReplayLog(tmp_path / "log")
    for callbacks in ([log, Killed()], [log]):
        model = dense_model()
        compile_(model, optimizer(), "graph")
        with pytest.raises(KeyboardInterrupt) if len(callbacks) > 1 else contextlib.nullcontext():
            fit(model, callbacks=callbacks)
    assert_equal(rb.replay(tmp_path / "log", dense_model()), model)


def test_logging_changes_rounding_at_most(run):
    _, model = run
    plain = dense_model()
    compile_(plain, optimizer(), "graph")
    fit(plain)
    assert_close(plain, model)


def test_a_log_is_not_gone_on_with_from_other_weights(tmp_path):
    logged(tmp_path / "log", epochs=1)
    model = logged(tmp_path / "other", epochs=1)
    model.set_weights([2 * weight for weight in model.get_weights()])
    with pytest.raises(rb.ReplayError, match="the weights differ from those of the run after 4 steps"):
        fit(model, 1, callbacks=[rb.ReplayLog(tmp_path / "log")])
