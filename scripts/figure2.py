"""Figure 2: workers that share d directions out: accuracy, CPU time of a worker, bytes it sends.

python scripts/figure2.py [--preset=smoke|quick|paper] [--data_dir=DIRECTORY] [--jobs=N]

The paper: 1, 8 and 16 IPUs reach one accuracy, in less time the more there are. Ours are 1 to 16 virtual
devices of one process, with signs for directions and batches of 32 each; times are of one worker's share of
a step's random bases.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("figure2")
