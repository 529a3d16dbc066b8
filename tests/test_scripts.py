"""The scripts that a user runs, as a user runs them."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import methods, networks, results, training

ROOT = Path(__file__).resolve().parents[1]


def run_quickstart(workdir, *flags):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "quickstart.py"), f"--workdir={workdir}", *flags],
        env=dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3"),
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return done.stdout.decode()


def test_quickstart(tmp_path):
    output = run_quickstart(tmp_path, "--epochs=2", "--dimensions=20")
    rows = [line for line in output.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "method", "SGD", "FPD", "FPD", "RBD", "RBD", "RBD + error feedback", "RBD"
    ]  # fmt: skip
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    content = results.read_json(tmp_path / "results.json")
    assert [result["name"] for result in content] == [
        "sgd", "fpd-normal", "fpd-hadamard", "rbd-normal", "rbd-hadamard",
        "rbd-hadamard-error-feedback", "rbd-kronecker",
    ]  # fmt: skip
    remembering, factored = content[-2:]
    rate = content[0]["learning_rate"]
    assert (remembering["config"]["error_feedback"], remembering["learning_rate"]) == (1.0, rate)
    assert factored["trained_dimensions"] == 961
    assert all(result["status"] == "finished" for result in content)


@pytest.mark.slow
def test_rbd_beats_fpd_at_the_same_dimensions(tmp_path):
    run_quickstart(tmp_path)
    accuracy = {r["name"]: r["test_accuracy"] for r in results.read_json(tmp_path / "results.json")}
    for basis in ("normal", "hadamard"):
        assert accuracy[f"rbd-{basis}"] > accuracy[f"fpd-{basis}"] + 0.05
    assert accuracy["sgd"] > 0.95
    assert accuracy["rbd-hadamard-error-feedback"] > accuracy["rbd-hadamard"] + 0.01


INTRINSIC = sorted((ROOT / "configs").glob("intrinsic_*.py"))
CONFIGS = sorted(set((ROOT / "configs").glob("*.py")) - set(INTRINSIC))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_are_valid_and_say_how_they_are_run(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    shape = {"cifar10": (32, 32, 3), "digits": (8, 8, 1)}.get(config.dataset, (28, 28, 1))
    model = networks.get(config.network, shape)
    size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    for method in config.learning_rates:
        config = module.get_config()
        config.method = method
        training.check_config(config)
        methods.build_optimizer(config, size)
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert f"--config=configs/{path.name}" in docstring
    assert f"D = {size:,}" in docstring


def test_every_method_has_a_configuration():
    said = " ".join(path.read_text() for path in CONFIGS)
    assert all(f'"{method}"' in said for method in methods.METHODS)


def test_table_1_has_its_six_networks():
    names = {f"{network}_{data}" for network in ("fc", "cnn") for data in ("mnist", "fmnist", "cifar10")}
    assert names <= {path.stem for path in CONFIGS}


def reproduce_command(only, tmp_path, *flags):
    script = str(ROOT / "scripts" / "reproduce.py")
    places = [f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path}"]
    return [sys.executable, script, f"--only={only}", *places, *flags]


def reproduce(only, tmp_path, *flags):
    """A table or figure of the reproduction, with runs and results in `tmp_path`: (exit status, output)."""
    done = subprocess.run(
        reproduce_command(only, tmp_path, *flags),
        env=dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3"),
        capture_output=True,
        timeout=1200,
    )
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def test_the_plan_of_the_reproduction(tmp_path):
    status, output = reproduce("figure3", tmp_path, "--list", "--preset=quick")
    assert status == 0, output[-2000:]
    assert re.search(r"\| resnet8_cifar10/rbd-hadamard +\| [0-9]+ +\| 0 +\| 1 ", output)
    assert "5 runs left" in output
    assert not (tmp_path / "report.html").exists()
    status, output = reproduce("figure3", tmp_path, "--norun", "--preset=quick")
    assert status == 0 and "figure3: nothing has run yet" in output
    assert "Not run yet." in (tmp_path / "report.html").read_text()


def test_a_reproduction_without_its_data_is_refused_at_once(tmp_path):
    status, output = reproduce("figure3", tmp_path, "--preset=quick", f"--data_dir={tmp_path}")
    assert status == 2 and "Refused: " in output and f"{tmp_path}/cifar10.npz" in output
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_the_reproduction_goes_on_when_it_was_killed(tmp_path):
    command = reproduce_command("figure3", tmp_path)
    first = subprocess.Popen(command, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    deadline = time.time() + 600
    while not list(tmp_path.glob("runs/*/*/seed0/result.json")) and time.time() < deadline:
        time.sleep(0.2)
    first.kill()
    first.wait()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/seed0/result.json")}
    assert 1 <= len(finished) < 4
    status, output = reproduce("figure3", tmp_path)
    assert status == 0, output[-2000:]
    assert len(list(tmp_path.glob("runs/*/*/seed0/result.json"))) == 4
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    labels = [
        line["label"] for line in results.read_json(tmp_path / "paper" / "figure3.json")["panels"][0]["lines"]
    ]
    assert labels == ["SGD", "RBD", "FPD", "NES"]
