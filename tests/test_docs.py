"""What the documentation shows: its Python is run, what its commands name exists, the manifest is right."""

import json
import os
import re
import runpy
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import yaml

import random_bases as rb
from random_bases.ipu_self_test import CHECKS
from random_bases.keras_api import GENERATION, keras, set_random_seed
from tests import documentation
from tests.documentation import PAGES, ROOT
from tests.setup_arguments import setup_arguments

EXTRAS = set(setup_arguments()["extras_require"])


# --- The manifest for Kubernetes ------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest():
    return tuple(yaml.safe_load_all((ROOT / "docs" / "kubernetes.yaml").read_text()))


def test_the_pods_of_the_job_find_each_other(manifest):
    service, policy, job = manifest
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    template = job["spec"]["template"]["spec"]
    assert template["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"  # a name for each pod
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


def test_only_the_workers_reach_the_workers(manifest):
    service, policy, job = manifest
    pods = {"matchLabels": service["spec"]["selector"]}
    assert policy["spec"]["podSelector"] == pods and policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    assert rule == {"from": [{"podSelector": pods}], "ports": service["spec"]["ports"]}


@pytest.mark.parametrize("index", [0, 3])
def test_its_shell_command_makes_a_valid_tf_config(manifest, index):
    service, policy, job = manifest
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "TF_USE_LEGACY_KERAS", "value": "1"} in container["env"]
    (program,) = container["args"]
    printing = program.replace("exec python", "echo")
    assert printing != program
    done = subprocess.run(
        [*container["command"], printing + '\nprintf %s "$TF_CONFIG" >&2'],
        env=dict(os.environ, JOB_COMPLETION_INDEX=str(index)),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stderr)
    assert told["task"] == {"type": "worker", "index": index}
    name, port = job["metadata"]["name"], service["spec"]["ports"][0]["port"]
    workers = [f"{name}-{i}.{name}:{port}" for i in range(job["spec"]["completions"])]
    assert told["cluster"]["worker"] == workers
    script, *flags = done.stdout.split()
    assert (ROOT / script).exists()
    config = next(flag for flag in flags if flag.startswith("--config="))
    assert (ROOT / config.split("=")[1]).exists()
    assert "--config.strategy=multi_worker" in flags


def test_what_a_person_with_an_ipu_is_told_to_expect_is_what_it_prints():
    assert f"{len(CHECKS)} of {len(CHECKS)} checks passed: PASS" in documentation.read("docs/ipu.md")


# --- Python: every block is run -------------------------------------------------------------------

# What must have come of a page's blocks.
OUTCOMES = {"docs/evolution.md": "after > before + 0.2"}


def prelude():
    """What the pages take for given: a small model, its data, and the usual imports."""

    def build_model():
        set_random_seed(0)
        layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10, activation="softmax")]
        model = keras.Sequential([keras.Input((64,)), *layers])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    generator = np.random.default_rng(0)
    x, y = generator.random((64, 64), np.float32), generator.integers(0, 10, 64)
    return {
        "__name__": "page",
        **{"keras": keras, "np": np, "rb": rb, "tf": tf},
        **{"x": x, "y": y, "images": x, "labels": y, "build_model": build_model, "model": build_model()},
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(32, drop_remainder=True),
    }


@pytest.mark.skipif(GENERATION != "keras3", reason="the pages are for Keras 3")
@pytest.mark.parametrize("page", [page for page in PAGES if documentation.blocks(page, "python")])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = prelude()
    for block in documentation.blocks(page, "python"):
        if not block.reason:
            # So that a traceback has the page's own lines.
            exec(compile("\n" * block.line + block.code, page, "exec"), namespace)
    assert eval(OUTCOMES.get(page, "True"), namespace)


def test_blocks_and_reasons_are_found():
    every = [block for page in PAGES for block in documentation.blocks(page, "python")]
    fences = sum(documentation.read(page).count("```python\n") for page in PAGES)
    assert len(every) == fences > 15
    assert 0 < sum(bool(block.reason) for block in every) < 5


# --- Commands: what they name exists ----------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if documentation.commands(page)])
def test_scripts_flags_configurations_and_extras_of_commands_exist(page):
    for words in documentation.commands(page):
        check_command(words)


def check_command(words):
    if "pip" in words:
        for extra in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= EXTRAS, words
    if "pytest" in words:
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), words
    script = next((ROOT / word for word in words if word.startswith("scripts/")), None)
    words = words[words.index("python") :] if "python" in words else words  # past poprun and its flags
    if words[0].startswith("python") and "-m" in words:
        module = words[words.index("-m") + 1]
        if module.split(".")[0] not in ("random_bases", "benchmarks"):
            return
        path = ROOT.joinpath(*module.split("."))
        script = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    if script is None:
        return
    assert script.exists(), words
    allowed = documentation.defined_flags(script)
    given = documentation.flags(words)
    assert {name for name, _, _ in given} <= allowed, (words, allowed)
    files = [value for name, key, value in given if name == "config" and not key]
    if files and files[0].endswith(".py"):
        config = runpy.run_path(str(ROOT / files[0]))["get_config"]()
        for name, key, _ in given:
            assert name != "config" or not key or key in config, (words, key)


def test_a_command_that_names_what_is_not_there_would_be_noticed():
    for command in (
        "python scripts/nothing.py",
        "python scripts/train.py --confg=configs/fc_mnist.py",
        "python scripts/train.py --config=configs/fc_mnist.py --config.metod=rbd",
        "python -m random_bases.ipu_test",
        "pip install -e .[tests]",
        "pytest tests/test_nothing.py",
    ):
        with pytest.raises((AssertionError, FileNotFoundError)):
            check_command(command.split())


FOLDERS = "configs|scripts|docs|tests|experiments|benchmarks|[.]ci|random_bases"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w)(?!\w*\*)", documentation.read(page)):
        assert (ROOT / name).exists() or (ROOT / (name + ".py")).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", documentation.read(page))
    for target in targets:
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), target


def test_the_reference_has_every_public_class_and_function():
    shown = re.findall(r"(?m)^::: random_bases\.(\S+)$", documentation.read("docs/api.md"))
    named = {name.split(".")[-1] for name in shown}
    public = {name for name in rb.__all__ if callable(getattr(rb, name))}
    assert len(public) > 8 and public <= named


# --- The README ---------------------------------------------------------------------------------------


def test_the_readme_is_short_and_has_the_two_commands():
    text = documentation.read("README.md")
    assert len(text.splitlines()) <= 120
    assert "\npip install -e '.[experiments]' && python scripts/quickstart.py\n" in text
    assert "\npip install -e '.[test]' && pytest\n" in text
