"""What a run goes on from when files of it are damaged or missing: the last whole epoch, or not at all."""

import random
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from experiments import checkpoints, results, training
from tests.experiments.test_training import assert_same_state, final_state, small_config

CONFIG = {"seed": 0, "epochs": 3, "data_dir": "here"}
DATA = "ckpt-3.data-00000-of-00001"


class Part(tf.Module):
    """Of a model or an optimizer: numbers."""

    def __init__(self):
        super().__init__()
        self.numbers = tf.Variable(np.zeros(50, np.float32))


def checkpoint(directory, **changes):
    """A callback, and the parts that it saves."""
    parts = Part(), Part()
    config = {**CONFIG, **changes}
    return checkpoints.EpochCheckpoint(*parts, config, {"new": None}, directory, directory), parts


def save(directory, epochs, **changes):
    callback, parts = checkpoint(directory, **changes)
    callback.on_train_begin()
    for epoch in epochs:
        for part in parts:
            part.numbers.assign(np.full(50, epoch + 1))
        callback.on_epoch_end(epoch)


def restored(directory, most=3, **changes):
    """The number of epochs, and what was restored."""
    callback, parts = checkpoint(directory, **changes)
    epochs = callback.restore(most)
    assert all((part.numbers.numpy() == epochs).all() for part in parts)
    return epochs


@pytest.fixture
def directory(tmp_path):
    """With the checkpoints of epochs 2 and 3."""
    save(tmp_path / "checkpoints", range(3))
    return tmp_path / "checkpoints"


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path, bit=None):
    content = bytearray(path.read_bytes())
    bit = 8 * len(content) // 2 if bit is None else bit
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_the_last_two_are_kept_and_the_last_is_restored(directory):
    assert sorted(path.name for path in directory.iterdir()) == [
        "checkpoint", "ckpt-2.data-00000-of-00001", "ckpt-2.index", DATA, "ckpt-3.index"
    ]  # fmt: skip
    assert tf.train.latest_checkpoint(str(directory)) == str(directory / "ckpt-3")
    assert restored(directory) == 3
    assert restored(directory / "none", most=0) == restored(directory / "none", most=1) == 0


@pytest.mark.parametrize("damage", [cut, lambda path: path.unlink(), lambda path: path.write_bytes(b"\xff")])
def test_tensorflows_record_is_not_needed(damage, directory, caplog):
    damage(directory / "checkpoint")
    assert restored(directory) == 3 and not caplog.records


@pytest.mark.parametrize("name", ["ckpt-3.index", DATA])
@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()], ids=["cut", "altered", "gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_restored(damage, name, directory, caplog):
    damage(directory / name)
    assert restored(directory) == 2
    (record,) = caplog.records
    pattern = f"Going on from {directory}/ckpt-2. {directory}/ckpt-3: it is damaged"
    assert re.match(pattern, record.getMessage())
    save(directory, [2])
    assert restored(directory) == 3 and len(list(directory.iterdir())) == 5


def test_one_with_more_epochs_than_there_are_metrics_of_is_passed_over(directory, caplog):
    assert restored(directory, most=2) == 2
    assert "ckpt-3: metrics.csv has whole rows of 2 epochs only" in caplog.text


def test_no_flipped_bit_restores_other_numbers(directory):
    generator = random.Random(0)
    for trial in range(60):
        path = directory / ["ckpt-3.index", DATA, "checkpoint"][trial % 3]
        whole = path.read_bytes()
        flip(path, generator.randrange(8 * len(whole)))
        assert restored(directory) in (2, 3)
        path.write_bytes(whole)


def test_where_nothing_can_be_gone_on_from_that_is_an_error(directory):
    with pytest.raises(results.DamagedError, match="no checkpoint to go on from. .*ckpt-3: .*; .*ckpt-2: "):
        restored(directory, most=1)
    for path in directory.glob("*.index"):
        path.unlink()
    message = f"{directory} has no checkpoint to go on from. .*/ckpt-3: it is damaged .*; .*/ckpt-2: it is"
    with pytest.raises(results.DamagedError, match=message):
        restored(directory)
    shutil.rmtree(directory)
    with pytest.raises(results.DamagedError, match=f"{directory} has no checkpoint, but .* 2 epochs"):
        restored(directory, most=2)


def test_those_of_another_run_are_refused(directory):
    assert restored(directory, epochs=8, data_dir="there") == 3  # the same, with more epochs
    assert restored(directory, new=None) == 3  # a key of a later version
    for changes, said in (({"seed": 7}, "seed: 0 != 7"), ({"new": 1}, "new: None != 1")):
        with pytest.raises(results.DamagedError, match=rf"ckpt-3 .*another configuration \({said}\)"):
            restored(directory, **changes)


def test_one_that_was_given_another_name_is_passed_over(directory, caplog):
    for path in directory.glob("ckpt-2.*"):
        shutil.copy(path, path.with_name(path.name.replace("ckpt-2", "ckpt-3")))
    assert restored(directory) == 2 and "ckpt-3: it is of epoch 2" in caplog.text


def test_those_of_earlier_versions_hold_no_configuration(tmp_path):
    parts = {"model": Part(), "optimizer": Part(), "epoch": tf.Variable(1, dtype=tf.int64)}
    for name in ("model", "optimizer"):
        parts[name].numbers.assign(np.ones(50))
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**parts), str(tmp_path), max_to_keep=2)
    manager.save(checkpoint_number=1)
    assert restored(tmp_path) == 1


def test_what_kills_leave_is_taken_away(directory):
    (directory / "ckpt-4_temp").mkdir()
    (directory / "ckpt-4_temp" / "part-00000-of-00001.index").touch()
    (directory / "checkpoint.tmp0123456789abcdef").touch()
    save(directory, [3])
    assert sorted(path.name for path in directory.glob("*.index")) == ["ckpt-3.index", "ckpt-4.index"]
    assert len(list(directory.iterdir())) == 5


@pytest.fixture(scope="module")
def third(tmp_path_factory):
    """The directory of a run that was killed after three epochs."""
    workdir = tmp_path_factory.mktemp("runs") / "third"
    training.run(small_config(epochs=3), workdir, verbose=0)
    (workdir / "result.json").unlink()
    return workdir


def test_a_run_goes_on_from_the_newest_whole_checkpoint(third, tmp_path):
    """Not from the first epoch: the rows before are those of the first process, to the letter."""
    shutil.copytree(third, tmp_path / "damaged")
    (tmp_path / "damaged" / "result.json.77.tmp").touch()  # of a kill
    cut(tmp_path / "damaged" / "checkpoints" / "ckpt-3.index")
    result = training.run(small_config(epochs=3), tmp_path / "damaged", verbose=0)
    assert_same_state(final_state(third), final_state(tmp_path / "damaged"))
    one, other = ((each / "metrics.csv").read_bytes().splitlines() for each in (third, tmp_path / "damaged"))
    assert one[:3] == other[:3] and len(result["accuracy"]) == 3
    assert not list((tmp_path / "damaged").rglob("*tmp"))


def test_a_run_without_its_metrics_is_refused_and_kept_until_it_is_overwritten(third, tmp_path):
    workdir = tmp_path / "damaged"
    shutil.copytree(third, workdir)
    content = (workdir / "metrics.csv").read_bytes()
    (workdir / "metrics.csv").write_bytes(content.splitlines(keepends=True)[0])
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    with pytest.raises(results.DamagedError, match="ckpt-3: metrics.csv has whole rows of 0 epochs only"):
        training.run(small_config(epochs=3), workdir, verbose=0)
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    training.run(small_config(epochs=3), workdir, overwrite=True, verbose=0)
    assert_same_state(final_state(third), final_state(workdir))
