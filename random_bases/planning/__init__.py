"""What a training step will take, before it is run: see `random_bases.planning.plan`."""

from random_bases.planning.plan import METHODS, MethodPlan, Plan, plan

__all__ = ["METHODS", "MethodPlan", "Plan", "plan"]
