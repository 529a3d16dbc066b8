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
    # As far as the interpreter at hand tells; that of 3.8 itself does in the Poplar SDK's profile.
    ast.parse(read(path), filename=str(path), feature_version=(3, 8))


# --- Imports (docs/design.md, section 3) ----------------------------------------------------------

# What each room of the library may import of the others, from the ground up: no row names a later one.
ROOMS = {
    "arguments": set(),
    "files": {"arguments"},
    "locks": {"files"},
    "tensors": set(),
    "device": {"arguments"},
    "keras_api": {"arguments"},
    "sampling": {"arguments"},
    "bases": {"tensors", "arguments", "device", "sampling"},
    "compartments": {"arguments"},
    "subspace": {"tensors", "sampling", "bases", "compartments"},
    "batches": {"arguments"},
    "first_steps": {"keras_api"},
    "safetensors": {"files"},
    "ipu": {"arguments", "device"},
    "strategies": {"arguments", "device", "ipu", "keras_api"},
    "layers": {"arguments", "bases", "device", "keras_api", "sampling"},
    "optimizers": {
        "tensors",
        "arguments",
        "bases",
        "compartments",
        "device",
        "keras_api",
        "sampling",
        "subspace",
    },
    "models": {
        *("arguments", "bases", "compartments", "device", "files", "first_steps", "keras_api", "sampling"),
        *("safetensors", "strategies", "subspace"),
    },
    "planning": {"tensors", "arguments", "bases", "keras_api", "models", "subspace"},
    "averaging": {
        "tensors",
        "arguments",
        "bases",
        "batches",
        "device",
        "files",
        "keras_api",
        "locks",
        "models",
        "subspace",
    },
    "evolution": {
        *(
            "tensors",
            "arguments",
            "bases",
            "batches",
            "compartments",
            "device",
            "first_steps",
            "keras_api",
            "models",
            "optimizers",
            "sampling",
            "strategies",
        ),
        "subspace",
    },
    "analysis": {
        *(
            "tensors",
            "arguments",
            "bases",
            "batches",
            "compartments",
            "keras_api",
            "optimizers",
            "sampling",
            "subspace",
        ),
    },
    "callbacks": {"analysis", "arguments", "device", "keras_api", "models", "optimizers"},
    "replay": {
        "tensors",
        "arguments",
        "device",
        "files",
        "bases",
        "evolution",
        "keras_api",
        "locks",
        "models",
        "optimizers",
        "sampling",
        "strategies",
    },
    "ipu_fit": {"ipu", "keras_api", "models", "optimizers"},
    "ipu_self_test": {"bases", "ipu", "ipu_fit", "keras_api", "models", "optimizers", "strategies"},
}
# What stands outside of the library may import it, and of one another:
OUTSIDE = {
    "experiments": set(),
    "configs": {"experiments"},
    "scripts": {"experiments"},
    "benchmarks": {"experiments"},
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


def room(name):
    """The room of the library that a dotted name lies in; else its folder."""
    folder, *rest = name.split(".")
    return rest[0] if folder == "random_bases" and rest and rest[0] in {*ROOMS, "__init__"} else folder


def violations(module, source):
    """Return the rules that `source`, the text of `module`, breaks, as a list of sentences."""
    uses = Uses(module)
    uses.visit(ast.parse(source))
    own, face = room(module), module == "random_bases.__init__"
    broken = []
    for name, in_function in uses.found:
        if within(name, KERAS) and own != "keras_api":
            broken.append(f"{module} takes {name}: only keras_api does")
        if within(name, IPU) and not (module == "random_bases.ipu" and in_function):
            broken.append(f"{module} imports {name}: only functions of ipu.py do")
        if within(name, ("tests",)):
            broken.append(f"{module} imports {name}: only tests do")
        if within(name, ("random_bases", *OUTSIDE)) and room(name) != own and not face:
            inside = module.startswith("random_bases.")
            # Beside, all of the library is open.
            allowed = ROOMS[own] if inside else OUTSIDE[own] | {*ROOMS, "random_bases"}
            if room(name) not in allowed:
                broken.append(f"{module} imports {name}: {own} may not")
    return broken


@pytest.mark.parametrize("path", OURS, ids=dotted)
def test_imports_run_one_way(path):
    assert not violations(dotted(path), read(path))


def test_every_room_has_its_row_and_the_rows_run_one_way():
    found = {room(dotted(path)) for path in OURS} - {"__init__"}
    assert found == {*ROOMS, *OUTSIDE}, "a file of no room counts as 'random_bases'"
    for table in (ROOMS, OUTSIDE):
        names = list(table)
        for name, allowed in table.items():
            assert allowed <= set(names[: names.index(name)]), name


def imported_files():
    """{module: the modules of ours that it imports, at any depth of its code}."""
    modules = {dotted(path): read(path) for path in OURS}
    graph = {}
    for module, source in modules.items():
        uses = Uses(module)
        uses.visit(ast.parse(source))
        names = {name for name, _ in uses.found}
        longest = set()
        for name in names:
            while name and name not in modules and f"{name}.__init__" not in modules:
                name = name.rpartition(".")[0]
            longest.add(name if name in modules else f"{name}.__init__")
        # Every file of a package runs its __init__ first, and that its files: no arrow.
        faces = {".".join([*module.split(".")[:i], "__init__"]) for i in range(1, module.count(".") + 1)}
        graph[module] = longest & set(modules) - {module} - faces
    return graph


def test_no_files_import_each_other_in_a_circle():
    graph, done = imported_files(), set()
    assert graph["random_bases.subspace"] >= {"random_bases.compartments", "random_bases.bases.basis"}

    def visit(module, above):
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for imported in graph[module]:
                visit(imported, [*above, module])
            done.add(module)

    for module in graph:
        visit(module, [])


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
        ("random_bases.keras_api.generation", "import tensorflow as tf\nkeras = tf.keras"),
        ("random_bases.ipu", "def f():\n    from tensorflow.python import ipu"),
        ("scripts.train", "from experiments import training"),
    ],
)
def test_what_design_allows_passes(module, source):
    assert violations(module, source) == []
