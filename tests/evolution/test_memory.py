"""Memory of training without gradients: that of inference, whatever the population."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
import random_bases as rb
from random_bases.keras_api import GENERATION, compile_model, keras

mode, basis, width, population, budget = *sys.argv[1:3], *map(int, sys.argv[3:])
x = inputs = keras.Input((width,))
for _ in range(3):
    x = keras.layers.Dense(width, activation="relu")(x)
model = keras.Model(inputs, keras.layers.Dense(10)(x))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
compile_model(model, jit_compile=True, loss=loss)
xs, ys = np.ones((64, width), np.float32), np.zeros(64, np.int32)
if mode == "predict":
    for _ in range(2):
        model.predict(xs, batch_size=16, verbose=0)
else:
    nes = rb.NaturalEvolutionStrategies(
        model, population, 1e-3, learning_rate=1e-6, antithetic=True, fitness="raw", memory_limit=budget,
        basis=basis, seed=0,
    )  # fmt: skip
    nes.fit(xs, ys, batch_size=16, steps_per_epoch=3, verbose=0)
peak = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps({"peak": peak / 1024, "parameters": model.count_params()}))
"""


def peak(mode, width, population=2, budget=2**27, basis="normal"):
    command = [sys.executable, "-c", PROGRAM, mode, basis, str(width), str(population), str(budget)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return json.loads(done.stdout.decode().splitlines()[-1])


@pytest.mark.slow
def test_spsa_trains_in_the_memory_of_inference():
    predicting, training = peak("predict", 4096), peak("train", 4096)
    assert training["parameters"] > 5e7
    # Seen: 4.5% where the compiler has one core, 5.3 where it has two.
    assert training["peak"] <= 1.07 * predicting["peak"], (training, predicting)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0, 2**22])
def test_memory_does_not_grow_with_the_population(budget):
    small, large = (peak("train", 512, population, budget)["peak"] for population in (4, 64))
    assert large < 1.05 * small


@pytest.mark.slow
def test_memory_of_low_rank_perturbations_does_not_grow_with_the_population():
    small, large = (peak("train", 512, population, basis="low_rank")["peak"] for population in (64, 1024))
    assert large < 1.1 * small
