"""What ran: one entry for each series of runs, with its configuration, from the runs' directories."""

from pathlib import Path
from typing import Any, Dict, List

from experiments import results
from experiments.training import default_config
from random_bases import arguments

# What says where, not what.
_PLACES = ("data_dir",)


def collect(workdir: Path) -> List[Dict[str, Any]]:
    """For each series below `workdir`, in the order of their names: see `_entry`."""
    directories = sorted(path for path in workdir.glob("*/*") if any(path.glob("seed*/config.json")))
    return [_entry(path, workdir) for path in directories]


def _entry(directory: Path, workdir: Path) -> Dict[str, Any]:
    """The series in a directory: its name, configuration, and what each seed has reached."""
    seeds, config, result, made_by = {}, {}, {}, []
    for path in sorted(directory.glob("seed*/config.json")):
        config = results.read_config(path) or {}
        rows = results.read_metrics(path.parent / "metrics.csv", ["val_accuracy"])
        found = results.read_result(path.parent / "result.json")
        if found is not None:
            result = found
            made = {"machine": result.get("machine"), "versions": result.get("versions")}
            if made not in made_by:
                made_by.append(made)
        with results.shaped(path):
            seed = str(arguments.integer("seed", config["seed"], 0))
        seeds[seed] = {
            "epochs": len(rows),
            "validation_accuracy": rows[-1]["val_accuracy"] if rows else None,
            "status": "under way" if found is None else found["status"],
        }
    default = default_config().to_dict()
    return {
        "name": str(directory.relative_to(workdir)),
        "seeds": seeds,
        "config": {
            key: value
            for key, value in config.items()
            if key not in (*_PLACES, "seed", "epochs") and value != default.get(key)
        },
        "learning_rate": result.get("learning_rate"),
        "parameters": result.get("parameters"),
        "made_by": made_by,
    }


def _epochs(entry: Dict[str, Any], seed: str) -> int:
    return entry["seeds"].get(seed, {"epochs": 0})["epochs"]


def write(workdir: Path, directory: Path) -> None:
    """Writes `runs.json`; what `workdir` does not have, or no longer, keeps the entry that was there."""
    path = directory / "runs.json"
    entries = {}
    if path.exists():
        with results.shaped(path):
            entries = {entry["name"]: entry for entry in results.read_json(path)}
    for entry in collect(workdir):
        earlier = entries.get(entry["name"], {"seeds": {}})["seeds"]
        further = {seed: each for seed, each in earlier.items() if each["epochs"] > _epochs(entry, seed)}
        entries[entry["name"]] = {**entry, "seeds": {**entry["seeds"], **further}}
    results.write_json(path, [entries[name] for name in sorted(entries)])
