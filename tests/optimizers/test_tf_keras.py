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
SMOKE = {
    "test_random_bases_descent.py": [
        # trains; with all dimensions it is the inner optimizer
        "test_with_all_dimensions_it_is_the_inner_optimizer[adam]",
        "test_with_all_dimensions_it_is_the_inner_optimizer[ema_overwrite]",
        "test_with_all_dimensions_it_is_the_inner_optimizer_compiled[momentum graph]",
        "test_sparse_gradients_move_as_dense_ones",
        # P P^T g
        "test_one_step_is_minus_lr_p_p_transposed_g[normal-network]",
        "test_one_step_is_minus_lr_p_p_transposed_g[rademacher-layer]",
        "test_draws_advance_with_updates[3]",
        "test_a_layer_off_the_path_to_the_loss[graph-True]",
        # loss scaling
        "test_keras_puts_loss_scaling_outside",
        "test_inside_loss_scaling_a_step_that_overflows_is_skipped",
        "test_loss_scaling_inside_is_refused",
        "test_optimizers_of_other_kinds_are_refused",
        "test_there_is_one_learning_rate",
    ],
    "test_saving.py": [
        "test_a_saved_model_goes_on[adam-.keras]",
        "test_a_saved_model_goes_on[adam-.h5]",
        "test_a_checkpoint_of_model_and_optimizer",
        "test_backup_and_restore",
        "test_a_configuration_makes_the_same_optimizer[schedule]",
    ],
    "test_error_feedback.py": [
        "test_a_saved_model_goes_on_bit_for_bit",
        "test_coordinates_still_tell_the_weights",
    ],
    "test_unknown_batch.py": ["test_with_all_dimensions_it_is_the_inner_optimizer[rank 3-graph]"],
}

pytestmark = [
    pytest.mark.skipif(GENERATION != "keras3", reason=f"this is {GENERATION} already, or has no tf-keras"),
    pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="tf_keras is not installed"),
]


def run(*tests):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests],
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
    output = run(*(f"{FOLDER / file}::{test}" for file, tests in SMOKE.items() for test in tests))
    assert " skipped" not in output, output[-4000:]


@pytest.mark.slow
def test_all():
    run(*(str(FOLDER / name) for name in ("test_rule.py", *SMOKE)))
