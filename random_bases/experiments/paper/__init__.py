"""The reproduction of Gressmann et al. 2020 (arXiv:2011.04720): which runs it needs, and what they show.

| file                     | subject                                                            |
| ------------------------ | ------------------------------------------------------------------ |
| `published.py`           | the paper's numbers, and where our protocol differs from its       |
| `runs.py`                | a run: its configuration, its directory, what is left of it        |
| `presets.py`             | how much of everything: smoke, quick, paper                        |
| `ours.py`                | the best training in the same number of directions, and its rates  |
| `table1.py`, `figure*.py`| the runs of each, and the data made of them                        |
| `runner.py`              | runs them in processes                                             |
| `panels.py`              | figures as data, drawn with matplotlib and, for the page, plotly   |
| `report.py`              | the page                                                           |
"""
