"""Table 1: held-out accuracy of NES, FPD, RBD and SGD on six networks, beside the paper's.

python scripts/table1.py [--preset=smoke|quick|paper] [--data_dir=DIRECTORY] [--jobs=N]

Writes `table1.md`, `table1.csv` and `table1.json`. RBD is there once with normal and once with Hadamard
directions; FPD has Hadamard ones; the last column is our own: Adam inside, in as many directions.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("table1")
