"""Figures: data of experiments, drawn into files with matplotlib (no display needed) and into pages.

| file             | subject                                                                |
| ---------------- | ---------------------------------------------------------------------- |
| `panels.py`      | panels of lines: as data, which are JSON, and drawn                    |
| `interactive.py` | the same and the surface as pieces of HTML, with plotly                |
| `surface.py`     | a loss surface with steepest descents                                  |
| `curves.py`      | accuracies of runs, variances of trajectories, intrinsic dimensions    |
| `analyses.py`    | what `experiments.analyses` measures                                   |
"""
