"""Plans against what XLA's buffers of the same steps come to."""

import json
import os
import subprocess
import sys

import pytest

import random_bases as rb
from random_bases.keras_api import GENERATION
from tests.planning import measured
from tests.planning.measured import ROOT


@pytest.mark.slow
@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no training step that XLA compiles")
def test_peaks_are_within_15_percent_of_measured_ones(tmp_path):
    folder = str(tmp_path / "dump")
    flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-m", "tests.planning.measured", folder],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    peaks = {tuple(case): peak for *case, peak in json.loads(done.stdout.decode().splitlines()[-1])}
    ratios = {}
    for name, batch in measured.CASES:
        model, shape = measured.build(name)
        plan = rb.plan(
            model,
            measured.data(shape, batch),
            model.count_params() // measured.FRACTION,
            rank=measured.RANK,
            methods=measured.METHODS,
        )
        for method in measured.METHODS:
            ratios[name, batch, method] = plan.methods[method].peak / peaks[name, batch, method]
    print(ratios)
    assert len(ratios) >= 20
    assert all(0.85 < ratio < 1.15 for ratio in ratios.values()), ratios
