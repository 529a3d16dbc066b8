"""What setup.py and its companions say: requirements, constraints, version, what is packed."""

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.setup_arguments import setup_arguments

ROOT = Path(__file__).resolve().parents[1]
CURRENT = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def declared():
    return setup_arguments()


def holds(requirement, python):
    environment = {"python_version": python, "python_full_version": python + ".0"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def combined(lines, python):
    """{name: versions} of what pip reads on that Python."""
    found = {}
    for requirement in map(Requirement, lines):
        if holds(requirement, python):
            name = canonicalize_name(requirement.name)
            found[name] = found.get(name, SpecifierSet()) & requirement.specifier
    return found


def required(declared, python, extra=""):
    return combined(declared["install_requires"] + declared["extras_require"].get(extra, []), python)


def constraints(name, python):
    lines = (ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines()
    return combined([line for line in lines if line and not line.startswith("#")], python)


@pytest.mark.parametrize("extra", ["", "experiments", "examples", "test", "dev"])
def test_python_38_requires_nothing_that_the_sdk_brings(declared, extra):
    found = required(declared, "3.8", extra)
    assert "scipy" in found
    sdk = {"numpy", "protobuf", "typing-extensions", "h5py"}
    assert not [name for name in found if name in sdk or "tensorflow" in name or "keras" in name]


@pytest.mark.parametrize(
    ("name", "version", "needs"),
    [
        ("matplotlib", "3.7.0", "numpy 1.20"),
        ("scipy", "1.10.0", "numpy 1.19.5"),
        ("exceptiongroup", "1.3.0", "typing-extensions 4.6"),
        ("tensorboard", "2.7.0", "TensorFlow 2.6 wants tensorboard < 2.7"),
    ],
)
def test_python_38_refuses_what_needs_newer_packages_than_the_sdks(declared, name, version, needs):
    assert not required(declared, "3.8", "test")[name].contains(version), needs


@pytest.mark.parametrize("python", CURRENT)
def test_current_python_requires_tensorflow_with_keras_310(declared, python):
    found = required(declared, python)
    assert found["tensorflow"].contains("2.16.1") and not found["tensorflow"].contains("2.15.1")
    assert found["keras"].contains("3.10.0") and not found["keras"].contains("3.9.2")
    assert set(found) == {"tensorflow", "keras", "numpy", "scipy", "filelock", "safetensors"}


@pytest.mark.parametrize("python", CURRENT)
def test_the_constraints_of_the_current_profile_bound_what_it_requires(declared, python):
    bounds = constraints("current_constraints.txt", python)
    assert set(required(declared, python)) <= set(bounds)
    everything = required(declared, python, "experiments")
    for name, bound in bounds.items():
        (newest,) = [clause.version for clause in bound if clause.operator == "<="]
        assert everything[name].contains(newest), name
    assert not constraints("current_constraints.txt", "3.8")


def test_the_sdks_constraints_hold_its_packages_and_only_on_python_38():
    found = constraints("poplar_sdk_constraints.txt", "3.8")
    assert {"tensorflow", "keras", "numpy", "protobuf"} <= set(found)
    assert not constraints("poplar_sdk_constraints.txt", "3.10")


def test_version_has_one_source(declared):
    import random_bases

    assert random_bases.__version__ == declared["version"]
    numbers = re.findall(r"(?m)^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert declared["version"] in numbers[:2]  # as released, or about to be


def test_experiments_and_tests_are_not_packed(declared):
    assert {name.split(".")[0] for name in declared["packages"]} == {"random_bases"}
    assert declared["package_data"] == {"random_bases": ["py.typed"]}
    assert (ROOT / "random_bases" / "py.typed").exists()


def test_the_citation_names_the_paper_of_each_method():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["license"]) == ("1.2.0", "MIT")
    papers = {item["value"] for paper in citation["references"] for item in paper["identifiers"]}
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = [line for line in design.splitlines() if line.startswith("| ")]
    cited = set(re.findall(r"arXiv:\d{4}\.\d{5}", "".join(table)))
    assert len(cited) >= 5 and cited <= papers
