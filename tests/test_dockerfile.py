"""The Dockerfile: its targets, that what they copy is there, and that the commands of the default one work.

.ci/run lints it.
"""

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def stages():
    """{name: (base image, [(instruction, the rest of its line)])} in order."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            steps = []
            found[name] = (base, steps)
        elif found:
            steps.append((instruction, rest))
    return found


STAGES = stages()


def copied(stage):
    """(sources, destination) of each COPY from the build context."""
    copies = [rest.split() for instruction, rest in STAGES[stage][1] if instruction == "COPY"]
    return [(words[:-1], words[-1]) for words in copies if not words[0].startswith("--from=")]


def sent(name):
    """Whether .dockerignore leaves a file to the build: the last pattern for it or a folder above decides."""
    parts = name.split("/")
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    result = True
    for pattern in (ROOT / ".dockerignore").read_text().split():
        kind = pattern.lstrip("!")
        anywhere = kind[3:] if kind.startswith("**/") else None
        if any(fnmatch.fnmatch(part, anywhere) for part in parts) if anywhere else kind in ("*", *above):
            result = pattern.startswith("!")
    return result


def test_the_targets():
    assert list(STAGES) == ["wheel", "ipu", "cpu"]  # the last is the default
    assert STAGES["ipu"][0] == "${IPU_BASE}"
    assert re.search(r"(?m)^ARG IPU_BASE=graphcore/tensorflow:2-", (ROOT / "Dockerfile").read_text())
    assert re.fullmatch(r"python:3\.\d+-slim", STAGES["cpu"][0])


@pytest.mark.parametrize("stage", ["ipu", "cpu"])
def test_images_have_a_user_who_can_write_where_it_works(stage):
    steps = [step for step, _ in STAGES[stage][1]]
    options = dict(STAGES[stage][1])
    assert options["USER"] == "1000" and steps.index("USER") < steps.index("WORKDIR")
    assert (
        re.search(r"useradd --create-home --uid=1000 (\w+)$", options["RUN"].strip())[1] in options["WORKDIR"]
    )


@pytest.mark.parametrize("stage", list(STAGES))
def test_what_is_copied_is_sent_to_the_build(stage):
    sources = [source for names, _ in copied(stage) for source in names]
    assert sources
    for source in sources:
        path = ROOT / source
        files = [path] if path.is_file() else list(path.glob("**/*.py"))
        assert files, source
        assert [file for file in files if not sent(file.relative_to(ROOT).as_posix())] == []


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_dockerfile.py",
        "results/paper/runs.json",
        ".git/HEAD",
        "scripts/__pycache__/train.pyc",
        ".ci/run",
    ],
)
def test_what_no_target_needs_is_not_sent(name):
    assert not sent(name)


@pytest.mark.parametrize(("stage", "module"), [("ipu", True), ("cpu", False)])
def test_the_command_is_in_the_image(stage, module):
    program, *arguments = json.loads(dict(STAGES[stage][1])["CMD"])
    assert program == "python3"
    if module:
        assert arguments[0] == "-m"
        assert (ROOT / (arguments[1].replace(".", "/") + ".py")).is_file()
        assert (["random_bases"], "random_bases") in copied("wheel")
    else:
        assert (ROOT / arguments[0]).is_file()
        folder = arguments[0].split("/")[0]
        assert ([folder], folder) in copied(stage)


@pytest.mark.slow
def test_the_cpu_targets_installation_and_command_work(tmp_path):
    """With a fresh environment of this Python in place of the image, and what the build is sent."""
    if sys.version_info < (3, 10):
        pytest.skip("this Python has no TensorFlow with Keras 3")
    for stage in ("wheel", "cpu"):
        for sources, destination in copied(stage):
            for source in sources:
                _copy(source, tmp_path / stage / destination / (source if destination.endswith("/") else ""))
    _run([sys.executable, "-m", "venv", tmp_path / "env"])
    python = tmp_path / "env" / "bin" / "python"
    replaced = {"/wheels": str(tmp_path / "wheels"), "python3": str(python)}
    for stage in ("wheel", "cpu"):
        (step,) = [rest for instruction, rest in STAGES[stage][1] if instruction == "RUN"]
        command = step.split("&& useradd")[0]  # this machine's users stay as they are
        for name, value in replaced.items():
            command = command.replace(name, value)
        _run(["sh", "-c", command], cwd=tmp_path / stage)
    _, *arguments = json.loads(dict(STAGES["cpu"][1])["CMD"])
    printed = _run([python, *arguments, "--epochs=1", "--dimensions=10"], cwd=tmp_path / "cpu")
    assert "| RBD " in printed


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in [ROOT / source, *(ROOT / source).rglob("*")]:
        if path.is_file() and sent(path.relative_to(ROOT).as_posix()):
            place = target / path.relative_to(ROOT / source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def _run(command, cwd=None):
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
