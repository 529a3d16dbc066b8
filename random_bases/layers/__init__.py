"""Layers made of random bases."""

from random_bases.layers.random_projection import RandomProjection

__all__ = ["RandomProjection"]
