"""Figure 1: a loss surface, the steepest descent at a point, and its part in a random basis.

python scripts/figure1.py

Drawn from a network on handwritten digits, restricted to two directions; the paper's is a schematic.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("figure1")
