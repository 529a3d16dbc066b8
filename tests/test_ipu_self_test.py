"""The checks for a person with an IPU: they pass on the double, and fail where something is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import ipu, ipu_self_test
from random_bases.sampling import native
from tests.poplar.double import Pod, installed

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ipu_self_test, "_TIMED", 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "pod", "flags"),
    [
        ([], None, ""),
        (["--replicas=2"], None, ""),
        (["--pod"], Pod(2), ""),
        ([], None, "--use_ipu_model"),
    ],
    ids=["1", "2", "pod", "IPU Model"],
)
def test_all_checks_pass_on_the_double(capsys, arguments, pod, flags):
    with installed(pod=pod, flags=flags):
        assert ipu_self_test.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in lines[:-1]] == ["pass  "] * len(ipu_self_test.CHECKS)
    assert lines[-1] == "11 of 11 checks passed: PASS"


def _context(replicas=1):
    strategy = rb.strategies.get("ipu", replicas=replicas)
    return ipu_self_test.Context(strategy, replicas)


def test_full_rbd_is_sgd():
    with installed():
        assert "weights differ by" in ipu_self_test.full_rbd_is_sgd(_context())


def test_a_generator_that_ignores_seeds_is_found_out(monkeypatch):
    """As if the IPU Model's own generator were used."""
    monkeypatch.setattr(ipu, "_seeds_native", lambda: True)
    with installed(flags="--use_ipu_model"):
        with pytest.raises(ipu_self_test.Failure, match="correlation of two redraws 1.0"):
            ipu_self_test.same_seed_same_samples(_context())


def test_a_generator_that_draws_anew_backward_is_found_out(monkeypatch):
    calls = []

    def tile(distribution, key, direction, rows, block, blocks):
        calls.append(None)  # another number each time it is traced
        return (
            distribution.from_native((rows, 1, blocks), tf.stack([key[0] + direction, key[1] + len(calls)])),
        )

    monkeypatch.setattr(native, "tile", tile)
    with installed():
        with pytest.raises(ipu_self_test.Failure, match="relative difference"):
            ipu_self_test.forward_and_backward_agree(_context())


def test_failures_are_counted_and_the_others_go_on(monkeypatch, capsys):
    def wrong(context):
        """Something is wrong."""
        raise ipu_self_test.Failure("1 of 2")

    checks = (wrong, ipu_self_test.sums_cross_replicas)
    monkeypatch.setattr(ipu_self_test, "CHECKS", checks)
    with installed():
        assert ipu_self_test.main(["--replicas=2"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  Something is wrong. Failure: 1 of 2",
        "pass  Sums go over all replicas. 3.0 of 3.0",
        "1 of 2 checks passed: FAIL",
    ]


def test_without_an_ipu_it_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "random_bases.ipu_self_test"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "needs tensorflow.python.ipu" in done.stdout
    assert "Traceback" not in done.stderr
