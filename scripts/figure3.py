"""Figure 3: ResNet-8 on CIFAR-10, accuracy against epochs for RBD, FPD, NES and SGD.

python scripts/figure3.py [--preset=smoke|quick|paper] [--data_dir=DIRECTORY] [--jobs=N]

The paper: RBD is 20.5 points better than FPD and 39.6 than NES, at d = 500 (100 epochs). It names no learning
rates; ours are in configs/resnet8_cifar10.py, and directions are Hadamard ones.
"""

import reproduce

if __name__ == "__main__":
    reproduce.only("figure3")
