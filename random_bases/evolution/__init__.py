"""Evolution strategies: training without gradients, by the fitness of randomly perturbed weights."""

from random_bases.evolution.strategy import NaturalEvolutionStrategies

__all__ = ["NaturalEvolutionStrategies"]
