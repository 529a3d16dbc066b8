"""What setup.py declares, without an installation, whose metadata may be older."""

import runpy
from pathlib import Path
from typing import Any, Dict
from unittest import mock

import setuptools

ROOT = Path(__file__).resolve().parents[1]


def setup_arguments() -> Dict[str, Any]:
    """The arguments of `setup` in setup.py."""
    found: Dict[str, Any] = {}
    with mock.patch.object(setuptools, "setup", found.update):
        runpy.run_path(str(ROOT / "setup.py"))
    return found
