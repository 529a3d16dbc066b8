"""Figure 6, ours: accuracy against the number of directions d, up to all D of them, at constant cost.

python scripts/figure6.py [--preset=smoke|quick|paper] [--data_dir=DIRECTORY] [--jobs=N]

The paper calls large d computationally prohibitive; with Hadamard directions a step costs the same for all.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("figure6")
