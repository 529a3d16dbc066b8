"""Speed and memory of random_bases, as ratios of two things measured in one run."""
