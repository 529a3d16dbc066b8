"""Reparametrised models: any Keras model, trained in d coordinates only."""

from random_bases.models.subspace_model import SubspaceModel

__all__ = ["SubspaceModel"]
