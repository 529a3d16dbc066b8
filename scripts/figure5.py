"""Figure 5: distributions of the directions, as published and at equal variance.

python scripts/figure5.py [--preset=smoke|quick|paper] [--data_dir=DIRECTORY] [--jobs=N]

The paper finds Gaussian directions better than Uniform[-1, 1] and Bernoulli(0.5) ones. The 2020 code leaves
uniform ones at variance 1/3 and its Bernoulli at mean -0.5: both are shown, and what equal variance gives.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("figure5")
