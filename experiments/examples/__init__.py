"""Fine-tuning as people do it, each example one file with a `main`: `python -m experiments.examples.NAME`."""
