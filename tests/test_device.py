"""What is asked of the device at hand."""

import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import device
from random_bases.keras_api import keras
from tests.networks import build

STOCK = device.at_hand()


def several_processes(monkeypatch):
    of_two = STOCK._replace(is_of=lambda strategy: True, count_processes=lambda strategy: 2)
    monkeypatch.setattr(device, "_OTHERS", [of_two])


@pytest.mark.parametrize(
    "make",
    [
        lambda **seed: rb.RandomBasesDescent(keras.optimizers.SGD(0.1), dimensions=5, **seed),
        lambda **seed: rb.SubspaceModel(build("sequential")[0], dimensions=5, **seed),
        lambda **seed: rb.NaturalEvolutionStrategies(build("sequential")[0], 4, 0.1, 0.1, **seed),
        lambda **seed: rb.layers.RandomProjection(units=9, dimensions=5, **seed),
    ],
    ids=["RandomBasesDescent", "SubspaceModel", "NaturalEvolutionStrategies", "RandomProjection"],
)
def test_processes_that_must_draw_alike_are_given_a_seed(make, monkeypatch):
    several_processes(monkeypatch)
    with pytest.raises(ValueError, match="seed=None would be another one in each of 2 processes"):
        make()
    make(seed=3)


def test_the_processes_of_this_one_are_one():
    assert STOCK.count_processes(tf.distribute.get_strategy()) == 1
    assert STOCK.count_processes(tf.distribute.MirroredStrategy(["CPU:0"])) == 1
    assert rb.RandomBasesDescent(keras.optimizers.SGD(0.1), dimensions=5).seed >= 0
