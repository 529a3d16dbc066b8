"""Evolution strategies: training without gradients, by the fitness of randomly perturbed weights."""

from random_bases.evolution.natural_evolution_strategies import NaturalEvolutionStrategies

__all__ = ["NaturalEvolutionStrategies"]
