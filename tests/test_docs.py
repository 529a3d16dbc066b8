"""What the documentation shows: the manifest for Kubernetes, and the example of fine-tuning."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from random_bases.ipu_self_test import CHECKS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def manifest():
    service, job = yaml.safe_load_all((ROOT / "docs" / "kubernetes.yaml").read_text())
    return service, job


def test_the_pods_of_the_job_find_each_other(manifest):
    service, job = manifest
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    template = job["spec"]["template"]["spec"]
    assert template["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"  # a name for each pod
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


@pytest.mark.parametrize("index", [0, 3])
def test_its_shell_command_makes_a_valid_tf_config(manifest, index):
    service, job = manifest
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


@pytest.mark.slow
def test_the_example_of_fine_tuning_improves():
    text = (ROOT / "docs" / "evolution.md").read_text(encoding="utf-8")
    (program,) = [block for block in re.findall("```python\n(.*?)```", text, re.S) if "import" in block]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(float, re.search(r"accuracy (\S+) -> (\S+)", done.stdout).groups())
    assert after > before + 0.2


def test_what_a_person_with_an_ipu_is_told_to_run_exists():
    text = (ROOT / "docs" / "ipu.md").read_text(encoding="utf-8")
    named = re.findall(r"(?:configs|scripts)/\w+\.py", text)
    assert len(named) > 3 and all((ROOT / name).exists() for name in named)
    assert f"{len(CHECKS)} of {len(CHECKS)} checks passed: PASS" in text
