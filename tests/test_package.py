"""What the package promises as a whole: its Python version and its import arrows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("random_bases", "experiments", "scripts", "configs", "benchmarks", "tests")
FILES = [ROOT / "setup.py"] + sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.py"))
OURS = [path for path in FILES[1:] if path.relative_to(ROOT).parts[0] != "tests"]


def dotted(path):
    """Return "random_bases.bases.dense"; a package's file keeps its last part, "__init__"."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def read(path):
    return path.read_text(encoding="utf-8")


# --- Python 3.8 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_syntax_is_python_38(path):
    ast.parse(read(path), filename=str(path), feature_version=(3, 8))


@pytest.mark.parametrize(
    "source",
    ["match x:\n    case 1: pass", "with (a as b, c as d): pass", "try: pass\nexcept* E: pass"],
)
def test_newer_syntax_would_be_noticed(source):
    with pytest.raises(SyntaxError):
        ast.parse(source, feature_version=(3, 8))


# --- Imports (docs/design.md, section 3) ----------------------------------------------------------

# What each part of the core may import of the package, beside itself.
CORE = {
    "arguments": set(),
    "sampling": {"arguments"},
    "bases": {"arguments", "sampling"},
    "compartments": {"arguments"},
    "subspace": {"sampling", "bases", "compartments"},
    "keras_api": set(),
}
KERAS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
IPU = ("tensorflow.python.ipu", "tensorflow.compiler.plugin.poplar")


class Uses(ast.NodeVisitor):
    """Collects (dotted name, whether in a function) of all that a module imports.

    `from a import b` counts as a.b, and so does an attribute `a.b` of an imported module `a`.
    """

    def __init__(self, module):
        self.package = module.split(".")[:-1]
        self.found = []
        self.aliases = {}
        self.functions = 0

    def add(self, name):
        self.found.append((name, self.functions > 0))

    def visit_Import(self, node):
        for alias in node.names:
            self.aliases[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )
            self.add(alias.name)

    def visit_ImportFrom(self, node):
        base = self.package[: len(self.package) - node.level + 1] if node.level else []
        base = base + (node.module.split(".") if node.module else [])
        for alias in node.names:
            name = ".".join(base + [alias.name])
            self.aliases[alias.asname or alias.name] = name
            self.add(name)

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id in self.aliases:
            self.add(self.aliases[node.value.id] + "." + node.attr)
        self.generic_visit(node)

    def visit_Call(self, node):
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        if called in ("import_module", "__import__"):
            for argument in node.args[:1]:
                self.add(str(getattr(argument, "value", "")))
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        self.functions += 1
        self.generic_visit(node)
        self.functions -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef


def within(name, packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def violations(module, source):
    """Return the rules that `source`, the text of `module`, breaks, as a list of sentences."""
    uses = Uses(module)
    uses.visit(ast.parse(source))
    folder, part = module.split(".")[:2]
    broken = []
    for name, in_function in uses.found:
        if within(name, KERAS) and module != "random_bases.keras_api":
            broken.append(f"{module} takes {name}: only keras_api does")
        if within(name, IPU) and not (module == "random_bases.ipu" and in_function):
            broken.append(f"{module} imports {name}: only functions of ipu.py do")
        if folder != "random_bases" or part == "__init__":
            continue
        if within(name, ("scripts", "configs", "benchmarks", "tests")):
            broken.append(f"{module} imports {name}, which is outside the package")
        if within(name, ("random_bases",)):
            target = (name.split(".") + [""])[1]
            if part in CORE and target not in CORE[part] | {part}:
                broken.append(f"{module} imports {name}: {part} may not")
            if target == "experiments" and part != "experiments":
                broken.append(f"{module} imports {name}: only experiments and scripts may")
    return broken


@pytest.mark.parametrize("path", OURS, ids=dotted)
def test_imports_run_one_way(path):
    assert not violations(dotted(path), read(path))


def test_every_part_of_the_package_is_looked_at():
    looked_at = {dotted(path) for path in OURS}
    assert {"random_bases.__init__", "random_bases.keras_api"} <= looked_at


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("random_bases.sampling.counter", "from random_bases import bases"),
        ("random_bases.sampling.counter", "from ..bases import dense"),
        ("random_bases.sampling.__init__", "from .. import bases"),
        ("random_bases.bases.dense", "from random_bases.keras_api import keras"),
        ("random_bases.bases.dense", "import random_bases"),
        ("random_bases.compartments", "def f():\n    from . import subspace"),
        ("random_bases.subspace", "import random_bases.optimizers"),
        ("random_bases.optimizers.rule", "from ..experiments import networks"),
        ("experiments.training", "import scripts.train"),
        ("random_bases.layers", "import keras"),
        ("random_bases.layers", "from tensorflow import keras"),
        ("random_bases.layers", "from tensorflow.keras.layers import Layer"),
        ("random_bases.layers", "import tensorflow as tf\nclass A(tf.keras.layers.Layer): pass"),
        ("random_bases.layers", "def f():\n    import tf_keras as keras"),
        ("scripts.train", "import keras"),
        ("random_bases.ipu", "from tensorflow.python import ipu"),
        ("random_bases.ipu", "try:\n    import tensorflow.python.ipu\nexcept ImportError: pass"),
        ("random_bases.strategies", "def f():\n    from tensorflow.python.ipu import config"),
        ("random_bases.strategies", "f = importlib.import_module('tensorflow.python.ipu')"),
    ],
)
def test_a_violation_would_be_noticed(module, source):
    assert len(violations(module, source)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("random_bases.sampling.__init__", "from .counter import words\nimport tensorflow as tf"),
        ("random_bases.bases.dense", "from random_bases.sampling import counter"),
        ("random_bases.subspace", "from . import bases, compartments, sampling"),
        ("random_bases.optimizers.rule", "from ..keras_api import keras\nkeras.optimizers.SGD"),
        ("random_bases.keras_api", "import tensorflow as tf\nkeras = tf.keras"),
        ("random_bases.ipu", "def f():\n    from tensorflow.python import ipu"),
        ("scripts.train", "from experiments import training"),
    ],
)
def test_what_design_allows_passes(module, source):
    assert violations(module, source) == []
