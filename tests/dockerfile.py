"""Reads the Dockerfile, and executes a target's steps without a container engine: for test_dockerfile.py.

Each stage gets this machine's files under an overlay, which keeps all writes, and a fresh Python environment
in place of its base image's; steps run in it as written, by chroot, as the user that they name. Needs root.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple, Sequence

ROOT = Path(__file__).resolve().parents[1]


class Stage(NamedTuple):
    name: str
    base: str
    steps: list  # of (instruction, the rest of its line)


def parse(text):
    """({argument: default} of the ARGs before the first FROM, stages in order)."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", text)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    arguments, stages = {}, []
    for line in lines:
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            stages.append(Stage(name, base, []))
        elif instruction == "ARG" and not stages:
            name, _, default = rest.partition("=")
            arguments[name] = default
        else:
            stages[-1].steps.append((instruction, rest))
    return arguments, stages


def context(root=ROOT):
    """The files that a build sees: those that .dockerignore leaves, relative to the root."""
    patterns = (root / ".dockerignore").read_text().split()
    files = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(".git/") and not _ignored(name, patterns):
            files.append(name)
    return files


def _ignored(name, patterns):
    """The last pattern that fits a file or a folder above it decides."""
    parts = name.split("/")
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    ignored = False
    for pattern in patterns:
        kind = pattern.lstrip("!")
        if kind.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, kind[3:]) for part in parts)
        else:
            fits = any(path.count("/") == kind.count("/") and fnmatch.fnmatch(path, kind) for path in above)
        if fits:
            ignored = not pattern.startswith("!")
    return ignored


class Builder:
    """Executes stages under `work`; inside a mount namespace of its own (`unshare -m`).

    Args:
      work: an empty directory.
      bases: base image -> the Python to make its environment of, and what pip installs there beforehand.
    """

    def __init__(self, work: Path, bases: dict):
        self.work = work
        self.bases = bases

    def root(self, stage):
        return self.work / stage.name / "root"

    def build(self, stage: Stage) -> None:
        for folder in ("root", "upper", "work"):
            (self.work / stage.name / folder).mkdir(parents=True)
        root = self.root(stage)
        overlay = ",".join(
            [
                "lowerdir=/",
                f"upperdir={self.work / stage.name / 'upper'}",
                f"workdir={self.work / stage.name / 'work'}",
            ]
        )
        _run(["mount", "-t", "overlay", "overlay", "-o", overlay, str(root)])
        _run(["mount", "-t", "proc", "proc", str(root / "proc")])
        _run(["mount", "--rbind", "/dev", str(root / "dev")])
        for name in ("passwd", "group"):  # a slim image has no users
            lines = (root / "etc" / name).read_text().splitlines(keepends=True)
            kept = [line for line in lines if int(line.split(":")[2]) < 1000]
            (root / "etc" / name).write_text("".join(kept))
        self.user, self.directory, self.shell = "0", "/", ["/bin/sh", "-c"]
        python, packages = self.bases[stage.base]
        # A Python in a home must be seen by other users, too: inside the overlay.
        for folder in Path(os.path.realpath(python)).parents:
            _run(["chroot", str(root), "chmod", "a+x", str(folder)])
        self.inside(stage, [python, "-m", "venv", "/opt/base"])
        if packages:
            self.inside(stage, ["python3", "-m", "pip", "install", "--quiet", *packages])
        for instruction, rest in stage.steps:
            getattr(self, "do_" + instruction.lower())(stage, rest)

    def inside(self, stage: Stage, command: List[str], allowed: Sequence[int] = (0,)) -> str:
        """Runs a command in a stage as its user, from its directory; returns what it prints."""
        home = self._home(stage)
        environment = {"PATH": "/opt/base/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home}
        environment.update({name: os.environ[name] for name in os.environ if name.startswith("PIP_")})
        assign = [f"{name}={value}" for name, value in environment.items()]
        inner = ["env", "-i", *assign, "sh", "-c", f"cd {self.directory} && exec {_quoted(command)}"]
        switch = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return _run(["chroot", str(self.root(stage)), *switch, *inner], allowed)

    def _home(self, stage):
        for line in (self.root(stage) / "etc" / "passwd").read_text().splitlines():
            _, _, user, _, _, home, _ = line.split(":")
            if user == self.user:
                return home
        raise RuntimeError(f"USER {self.user} is nobody.")

    # Instructions.

    def do_run(self, stage, rest):
        self.inside(stage, [*self.shell, rest])

    def do_shell(self, stage, rest):
        self.shell = json.loads(rest)

    def do_user(self, stage, rest):
        self.user = rest

    def do_workdir(self, stage, rest):
        self.directory = rest
        (self.root(stage) / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def do_copy(self, stage, rest):
        options = [word for word in rest.split() if word.startswith("--")]
        *sources, destination = [word for word in rest.split() if not word.startswith("--")]
        target = self.root(stage) / os.path.join(self.directory, destination).lstrip("/")
        if options:
            (source,), (option,) = sources, options
            name = re.fullmatch("--from=(.*)", option).group(1)
            shutil.copytree(self.work / name / "root" / source.lstrip("/"), target)
            return
        for name in context():
            for source in sources:
                if name == source:
                    place = target / Path(name).name if destination.endswith("/") else target
                elif name.startswith(source + "/"):
                    place = target / Path(name).relative_to(source)
                else:
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place)

    def do_cmd(self, stage, rest):
        self.command = json.loads(rest)


def _quoted(command):
    return " ".join(shlex.quote(word) for word in command)


def _run(command, allowed=(0,)):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode not in allowed:
        raise RuntimeError(f"{_quoted(command)} gave {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def main(target: str, work: str, python: str, python38: str, *flags: str) -> None:
    """Builds a target, runs its default command with some flags, and prints what that prints."""
    _, stages = parse((ROOT / "Dockerfile").read_text())
    constraints = str(ROOT / ".ci" / "poplar_sdk_constraints.txt")
    sdk = ["tensorflow-cpu==2.6.5", "--constraint", constraints]  # stands in for the SDK's
    builder = Builder(Path(work), {"python:3.12-slim": (python, []), "${IPU_BASE}": (python38, sdk)})
    for stage in stages:
        if stage.name in ("wheel", target):
            builder.build(stage)
            last = stage
    print(builder.inside(last, ["id", "--user"]))
    print(builder.inside(last, [*builder.command, *flags], allowed=(0, 2)))


if __name__ == "__main__":
    main(*sys.argv[1:])
