"""The tests of this folder hold with tf-keras too; it needs a process of its own.

A plain run takes a smoke test, `pytest -m slow` all of them.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from random_bases.keras_api import GENERATION

FOLDER = Path(__file__).parent
SMOKE = [
    # trains; with all dimensions it is the inner optimizer
    "test_random_bases_descent.py::test_with_all_dimensions_it_is_the_inner_optimizer[adam]",
    "test_random_bases_descent.py::test_with_all_dimensions_it_is_the_inner_optimizer[ema_overwrite]",
    "test_random_bases_descent.py::test_with_all_dimensions_it_is_the_inner_optimizer_compiled[momentum graph]",
    "test_random_bases_descent.py::test_with_all_dimensions_any_model_trains_as_with_the_inner_optimizer"
    "[embedding and lstm]",
    # P P^T g
    "test_random_bases_descent.py::test_one_step_is_minus_lr_p_p_transposed_g[normal-network]",
    "test_random_bases_descent.py::test_one_step_is_minus_lr_p_p_transposed_g[rademacher-layer]",
    "test_random_bases_descent.py::test_draws_advance_with_updates[3]",
    "test_random_bases_descent.py::test_a_layer_off_the_path_to_the_loss[graph-True]",
    # loss scaling
    "test_random_bases_descent.py::test_keras_puts_loss_scaling_outside",
    "test_random_bases_descent.py::test_inside_loss_scaling_a_step_that_overflows_is_skipped",
    "test_random_bases_descent.py::test_loss_scaling_inside_is_refused",
    "test_random_bases_descent.py::test_optimizers_of_other_kinds_are_refused",
    "test_random_bases_descent.py::test_there_is_one_learning_rate",
    # saves and goes on
    "test_saving.py::test_a_saved_model_goes_on[adam-.keras]",
    "test_saving.py::test_a_saved_model_goes_on[adam-.h5]",
    "test_saving.py::test_a_checkpoint_of_model_and_optimizer",
    "test_saving.py::test_backup_and_restore",
    "test_saving.py::test_a_configuration_makes_the_same_optimizer[schedule]",
]

pytestmark = [
    pytest.mark.skipif(GENERATION != "keras3", reason=f"this is {GENERATION} already, or has no tf-keras"),
    pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="tf_keras is not installed"),
]


def run(*tests):
    assert (FOLDER / "test_saving.py").exists()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, tests)],
        cwd=str(FOLDER.parent.parent),
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_smoke():
    output = run(*(FOLDER / test for test in SMOKE))
    assert " skipped" not in output, output[-4000:]


@pytest.mark.slow
def test_all():
    run(FOLDER / "test_rule.py", FOLDER / "test_random_bases_descent.py", FOLDER / "test_saving.py")
