"""What the paper runs: data sets, networks, one run from one configuration, results and figures."""
