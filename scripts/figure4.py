"""Figure 4: accuracy and time against the number of compartments, at a constant number of directions.

python scripts/figure4.py [--preset=smoke|quick|paper] [--data_dir=DIRECTORY] [--jobs=N]

The paper: the more, the more accurate and the faster. Ours: accuracies with Hadamard directions; CPU time
of a step's random bases for normal and Hadamard ones.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("figure4")
