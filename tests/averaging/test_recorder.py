"""TrajectoryRecorder and Trajectory: what is recorded when, resuming, and files that are damaged."""

import json
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import keras_api, locks
from random_bases.averaging import TrajectoryError
from random_bases.averaging.snapshots import TrajectoryWriter, read_index
from random_bases.keras_api import GENERATION, keras
from tests import networks
from tests.lock_holder import holding

STEPS = 3  # an epoch's
Recorder = rb.TrajectoryRecorder


def compiled(name="sequential", seed=0, **arguments):
    model, x = networks.build(name, seed)
    keras_api.compile_model(
        model, jit_compile=False, optimizer=keras.optimizers.SGD(0.1), loss="mse", **arguments
    )
    return model, x


class Snapshots(keras.callbacks.Callback):
    """The weights after every step, kept by hand."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_begin(self, logs=None):
        if not self.weights:
            self.weights.append(flat(self.model))

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(flat(self.model))


def flat(model):
    return np.concatenate([np.ravel(variable.numpy()) for variable in model.trainable_variables])


def fit(model, x, callbacks, epochs=4, initial_epoch=0):
    y = networks.targets()
    return model.fit(
        x,
        y,
        batch_size=2,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, [3, 6, 9, 12]),
        ({"start": 0}, [0, 3, 6, 9, 12]),
        ({"start": 2, "stop": 3}, [6, 9]),
        ({"most": np.int64(2)}, [9, 12]),
        ({"every": 1, "start": 2, "stop": 4}, [2, 3, 4]),
        ({"every": 5, "start": 0}, [0, 5, 10]),
        ({"every": np.int32(4), "most": 1}, [12]),
    ],
    ids=str,
)
def test_weights_are_those_of_the_chosen_times(arguments, steps, tmp_path):
    model, x = compiled()
    taken = Snapshots()
    fit(model, x, [Recorder(tmp_path, **arguments), taken])
    trajectory = rb.Trajectory(tmp_path)
    assert trajectory.steps == steps
    for step, weights in zip(steps, trajectory.weights):
        assert isinstance(weights, np.memmap)
        np.testing.assert_array_equal(weights, taken.weights[step])
    # Nothing but what the index names, and the lock.
    assert len(list(tmp_path.iterdir())) == 2 + 2 * len(steps)


def test_a_directory_where_another_process_records_is_refused(tmp_path):
    model, x = compiled()
    with holding(tmp_path), pytest.raises(locks.InUseError, match=str(tmp_path)):
        fit(model, x, [Recorder(tmp_path)], epochs=1)
    fit(model, x, [Recorder(tmp_path)], epochs=1)
    with holding(tmp_path):  # it was released
        assert len(rb.Trajectory(tmp_path)) == 1


def test_average_and_slices(tmp_path):
    model, x = compiled()
    taken = Snapshots()
    fit(model, x, [Recorder(tmp_path, every=1), taken])
    part = rb.Trajectory(tmp_path)[4:9]
    assert part.steps == [5, 6, 7, 8, 9]
    np.testing.assert_allclose(part.average(), np.mean(taken.weights[5:10], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(part[-1], taken.weights[9])


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_what_is_not_trained_is_recorded_too(name, tmp_path):
    model, x = compiled(name)
    fit(model, x, [Recorder(tmp_path)], epochs=2)
    trajectory = rb.Trajectory(tmp_path)
    other, _ = networks.build(name, seed=1)
    trajectory.check_model(other)
    trained = {id(variable) for variable in model.trainable_variables}
    expected = [v.numpy() for v in model.weights if id(v) not in trained]
    found = trajectory.state(-1)
    if GENERATION == "keras3":  # with the states of seed generators
        found = found[: len(expected)]
    assert len(found) == len(expected)
    for one, two in zip(found, expected):
        np.testing.assert_array_equal(one, two)


class Uncalled(keras.Model):
    """Its weights are made in the first step."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def uncompiled(kind):
    keras_api.set_random_seed(0)
    model = Uncalled() if kind == "subclassed" else keras.Sequential([keras.layers.Dense(3)])
    keras_api.compile_model(model, jit_compile=False, optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return model


@pytest.mark.parametrize(
    ("kind", "arguments", "steps"),
    [("sequential", {}, [3, 6]), ("subclassed", {"every": 2, "resume": True}, [2, 4, 6])],
    ids=["sequential", "subclassed"],
)
def test_models_that_fit_builds(kind, arguments, steps, tmp_path):
    x = networks.build("sequential")[1]
    if arguments:  # what another process left that was killed before its first checkpoint
        fit(uncompiled(kind), x, [Recorder(tmp_path, every=1)], epochs=3)
    model = uncompiled(kind)
    fit(model, x, [Recorder(tmp_path, **arguments)], epochs=2)
    trajectory = rb.Trajectory(tmp_path)
    assert trajectory.steps == steps
    trajectory.check_model(model)
    np.testing.assert_array_equal(trajectory[-1], flat(model))
    with pytest.raises(ValueError, match="start=0 .* is not built: call it on a batch"):
        fit(uncompiled(kind), x, [Recorder(tmp_path / "other", start=0)], epochs=1)


def test_float16(tmp_path):
    model, x = compiled()
    fit(model, x, [Recorder(tmp_path, dtype="float16")])
    (*_, last) = rb.Trajectory(tmp_path).weights
    assert last.dtype == np.float16
    np.testing.assert_array_equal(last, flat(model).astype(np.float16))
    model.trainable_variables[0].assign(np.full((5, 6), 1e5))
    writer = TrajectoryWriter(tmp_path / "other", model, "float16")
    with pytest.raises(ValueError, match="kernel.*not finite in dtype='float16'"):
        writer.append(step=1, epoch=1)


def test_steps_that_are_executed_at_once(tmp_path):
    model, x = compiled(steps_per_execution=3)
    fit(model, x, [Recorder(tmp_path / "a", every=6)])
    assert rb.Trajectory(tmp_path / "a").steps == [6, 12]
    model, x = compiled(steps_per_execution=3)
    with pytest.raises(ValueError, match="every=2 steps is not possible: 3 steps are executed at once"):
        fit(model, x, [Recorder(tmp_path / "b", every=2)])


# --- Going on -------------------------------------------------------------------------------------


class Killed(Exception):
    pass


class KillAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Killed


@pytest.mark.parametrize("arguments", [{}, {"every": 1, "start": 0}, {"every": 2, "most": 3}], ids=str)
def test_resuming_equals_never_stopping(arguments, tmp_path, caplog):
    def checkpoint(model):
        keras_api.build_optimizer(model.optimizer, model.trainable_variables)
        return keras.callbacks.ModelCheckpoint(
            str(tmp_path / "epoch{epoch}.weights.h5"), save_weights_only=True
        )

    model, x = compiled()
    fit(model, x, [Recorder(tmp_path / "whole", **arguments)])

    model, x = compiled()
    with pytest.raises(Killed):
        fit(model, x, [checkpoint(model), Recorder(tmp_path / "part", **arguments), KillAt(2, 1)])
    # It goes on from the end of epoch 2, although two steps of epoch 3 were made.
    model, x = compiled(seed=1)
    keras_api.build_optimizer(model.optimizer, model.trainable_variables)
    model.load_weights(str(tmp_path / "epoch2.weights.h5"))
    model.optimizer.iterations.assign(2 * STEPS)
    with caplog.at_level(logging.INFO, logger="random_bases"):
        fit(model, x, [Recorder(tmp_path / "part", resume=True, **arguments)], initial_epoch=2)
    assert ("dropped the snapshots of steps" in caplog.text) == ("every" in arguments)

    whole, part = rb.Trajectory(tmp_path / "whole"), rb.Trajectory(tmp_path / "part")
    assert whole.steps == part.steps
    for one, two in zip(whole.weights, part.weights):
        np.testing.assert_array_equal(one, two)
    names = [sorted(path.name for path in (tmp_path / each).iterdir()) for each in ("whole", "part")]
    assert names[0] == names[1]


def test_a_second_fit_appends(tmp_path):
    model, x = compiled()
    recorder = Recorder(tmp_path)
    fit(model, x, [recorder], epochs=2)
    fit(model, x, [recorder], epochs=2)
    assert rb.Trajectory(tmp_path).steps == [3, 6, 9, 12]


def test_a_recorder_records_the_model_that_is_trained(tmp_path):
    recorder = Recorder(tmp_path, resume=True)
    for seed in (0, 1):
        model, x = compiled(seed=seed)
        fit(model, x, [recorder], epochs=1)
    np.testing.assert_array_equal(rb.Trajectory(tmp_path)[-1], flat(model))


def test_another_trainings_snapshots_are_not_overwritten_by_accident(tmp_path):
    model, x = compiled()
    recorder = Recorder(tmp_path)
    fit(model, x, [recorder], epochs=2)
    for callback in (Recorder(tmp_path), recorder):
        model, x = compiled()
        with pytest.raises(ValueError, match="holds 2 snapshots of another training: resume=True"):
            fit(model, x, [callback], epochs=1)
    assert rb.Trajectory(tmp_path).steps == [3, 6]


class _Killed(Exception):
    pass


class _Kill(keras.callbacks.Callback):
    """Ends the process, as far as a test can, after so many epochs."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise _Killed


@pytest.mark.parametrize("arguments", [{}, {"every": 3}, {"every": 1}, {"most": 2}, {"start": 3}], ids=str)
def test_no_snapshot_is_lost_between_a_backup_and_its_recording(arguments, tmp_path):
    """Killed after a callback before this one has saved the epoch: the snapshot is made up for."""

    def train(directory, callbacks, kill=()):
        model, x = compiled()
        callbacks_of = keras.callbacks.experimental if GENERATION == "keras2.6" else keras.callbacks
        backup = callbacks_of.BackupAndRestore(str(directory / "backup"))
        recorder = Recorder(directory / "trajectory", resume=True, **arguments)
        fit(model, x, [backup, *kill, recorder, *callbacks])

    train(tmp_path / "whole", [])
    with pytest.raises(_Killed):
        train(tmp_path / "killed", [], [_Kill(2)])
    taken = Snapshots()
    train(tmp_path / "killed", [taken])
    assert len(taken.weights) == 1 + 2 * STEPS  # it went on after the second epoch
    whole, killed = (rb.Trajectory(tmp_path / each / "trajectory") for each in ("whole", "killed"))
    assert whole.steps == killed.steps
    for number, (one, other) in enumerate(zip(whole.weights, killed.weights)):
        np.testing.assert_array_equal(one, other)
        for a, b in zip(whole.state(number), killed.state(number)):
            np.testing.assert_array_equal(a, b)
    assert [each["epoch"] for each in read_index(tmp_path / "whole" / "trajectory")["snapshots"]] == [
        each["epoch"] for each in read_index(tmp_path / "killed" / "trajectory")["snapshots"]
    ]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    model, x = compiled()
    fit(model, x, [Recorder(tmp_path)], epochs=2)
    # Killed after the shard was moved to its place and before the index was; and while writing.
    left = [
        "weights-0000000009.npy",
        "state-0000000009.npz",
        "weights-0000000012.npy.77.tmp",
        "index.json.77.tmp",
    ]
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert rb.Trajectory(tmp_path).steps == [3, 6]
    TrajectoryWriter(tmp_path, model, "float32")
    assert not any((tmp_path / name).exists() for name in left)
    assert (tmp_path / "notes.txt").exists()
    assert rb.Trajectory(tmp_path).steps == [3, 6]


# --- Damage ---------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path):
    model, x = compiled()
    fit(model, x, [Recorder(tmp_path / "t")], epochs=2)
    return tmp_path / "t"


def test_a_truncated_shard_is_named(recorded):
    shard = recorded / "weights-0000000006.npy"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(TrajectoryError, match=r"weights-0000000006.npy is truncated: \d+ bytes of \d+"):
        rb.Trajectory(recorded)
    shard.unlink()
    with pytest.raises(TrajectoryError, match="weights-0000000006.npy is missing"):
        rb.Trajectory(recorded)


@pytest.mark.parametrize("name", ["weights-0000000003.npy", "state-0000000003.npz"])
def test_an_altered_shard_is_named(recorded, name):
    content = bytearray((recorded / name).read_bytes())
    content[-1] ^= 1
    (recorded / name).write_bytes(bytes(content))
    with pytest.raises(TrajectoryError, match=f"{name} is altered or of another trajectory"):
        rb.Trajectory(recorded)


def test_a_shard_of_another_training_is_named(recorded, tmp_path):
    model, x = compiled(seed=5)
    fit(model, x, [Recorder(tmp_path / "other")], epochs=2)
    shutil.copy(tmp_path / "other" / "weights-0000000003.npy", recorded)
    with pytest.raises(TrajectoryError, match="weights-0000000003.npy is altered or of another trajectory"):
        rb.Trajectory(recorded)


def test_another_architecture_is_refused(recorded):
    model, x = compiled("regularised")  # of the same shapes as "sequential"
    rb.Trajectory(recorded).check_model(model)
    model, x = compiled("normalised")
    with pytest.raises(TrajectoryError, match="trajectory of another architecture"):
        rb.Trajectory(recorded).check_model(model)
    with pytest.raises(TrajectoryError, match="trajectory of another architecture"):
        fit(model, x, [Recorder(recorded, resume=True)], epochs=1)


def test_a_damaged_index_is_named(recorded):
    index = recorded / "index.json"
    content = json.loads(index.read_text())
    for damaged, said in (
        (json.dumps(dict(content, format_version=1)).encode(), "is not an index of format_version=2"),
        (json.dumps(dict(content, size=7)).encode(), "is altered"),
        (json.dumps({k: v for k, v in content.items() if k != "sha256"}).encode(), "is altered"),
        (b"[]", "is not an index"),
        (b"{", "is damaged"),
        (b"\xff", "is damaged: .*utf-8"),
    ):
        index.write_bytes(damaged)
        with pytest.raises(TrajectoryError, match=f"{index} {said}"):
            rb.Trajectory(recorded)
    index.unlink()
    with pytest.raises(TrajectoryError, match="holds no trajectory"):
        rb.Trajectory(recorded)


def test_flipped_bits_of_an_index_are_noticed(recorded):
    path = recorded / "index.json"
    whole, index = path.read_bytes(), read_index(recorded)
    noticed = 0
    for bit in range(0, 8 * len(whole), 29):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert read_index(recorded) == index  # of a space that became another
        except TrajectoryError as error:
            assert str(path) in str(error)
            noticed += 1
    assert noticed > 0.9 * 8 * len(whole) / 29


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": "step"}, TypeError, "every='step' must be an int of at least 1, or 'epoch'"),
        ({"every": 0}, ValueError, "every=0 must be an int of at least 1, or 'epoch'"),
        ({"start": -1}, ValueError, "start=-1"),
        ({"start": 5, "stop": 4}, ValueError, "stop=4 must be an int of at least 5, or None"),
        ({"most": 0}, ValueError, "most=0"),
        ({"every": True}, TypeError, "every=True must be an int"),
        ({"dtype": "int8"}, ValueError, "dtype='int8' is unknown; allowed: 'float32'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Recorder("nowhere", **arguments)


class TrainedByAnother(keras.Model):
    """Has an optimizer of its own, beside the one that `compile` sets."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.d_optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss}


@pytest.mark.parametrize("every", ["epoch", 2])
def test_steps_of_an_optimizer_that_it_does_not_know_are_refused(tmp_path, every):
    x, y = np.ones((6, 2), np.float32), np.ones((6, 1), np.float32)

    def recorded(directory, use):
        model = TrainedByAnother()
        model(x)
        keras_api.compile_model(model, jit_compile=False, optimizer=keras.optimizers.SGD(0.1))
        model.d_optimizer = use(model)
        keras_api.build_optimizer(model.d_optimizer, model.trainable_variables)
        recorder = Recorder(tmp_path / directory, every=every)
        model.fit(x, y, batch_size=1, epochs=2, verbose=0, callbacks=[recorder])
        return len(rb.Trajectory(tmp_path / directory))

    with pytest.raises(ValueError, match="counted no step"):
        recorded("another", lambda model: keras.optimizers.SGD(0.1))
    assert recorded("its own", lambda model: model.optimizer) == (2 if every == "epoch" else 6)
