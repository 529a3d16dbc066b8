"""Keeps the tests of this folder fast: equal subspaces share their compiled programs."""

import pytest

from random_bases.optimizers import rule
from random_bases.subspace import Subspace

_subspaces = {}


@pytest.fixture(autouse=True)
def shared_programs(monkeypatch):
    """A subspace has no state but its programs, so optimizers that ask for equal ones can share it."""

    def subspace(*arguments):
        key = repr(arguments)
        if key not in _subspaces:
            _subspaces[key] = Subspace(*arguments)
        return _subspaces[key]

    monkeypatch.setattr(rule, "Subspace", subspace)
