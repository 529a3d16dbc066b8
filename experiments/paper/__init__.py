"""The reproduction of Gressmann et al. 2020 (arXiv:2011.04720): which runs it needs, and what they show.

| file                                           | subject                                             |
| ---------------------------------------------- | --------------------------------------------------- |
| `published.py`                                 | the paper's numbers, where our protocol differs     |
| `runs.py`                                      | a run: its directory, what it has reached           |
| `configurations.py`                            | runs' configurations and data, checked beforehand   |
| `presets.py`                                   | how much of everything: smoke, quick, paper         |
| `table1.py`, `figure1.py` ..., `augmentation.py` | the runs of each, and the data made of them       |
| `tables_and_figures.py`                        | these by name                                       |
| `feedback_column.py`, `sweep.py`               | our column of Table 1; learning rates               |
| `runner.py`                                    | runs in processes                                   |
| `timing.py`                                    | CPU times that figures show ratios of               |
| `agreement.py`, `series_index.py`, `report.py` | where we agree, what ran, the page of it all        |
"""
