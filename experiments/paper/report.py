"""The page: one HTML file with tables, interactive, configurations and findings, which needs no network.

It is made of what is in `<directory>/paper/`: the JSON files of table and figures, `runs.json`, and
`findings.md`, which people write; and of `<directory>/error_feedback/traffic.json`.
"""

import base64
import html
from pathlib import Path
from string import Template
from typing import Any, Dict, List, Optional, Sequence

import markdown

from experiments import results
from experiments.paper import agreement, augmentation, feedback_column, published, table1
from experiments.paper.protocols import PROTOCOLS
from random_bases import files

_TEMPLATE = Path(__file__).with_name("report_template.html")


def write(directory: Path) -> None:
    """Writes `<directory>/report.html`.

    Raises:
      FileNotFoundError: if there is no `<directory>/paper/runs.json`.
      ImportError: without plotly (the `[experiments]` extra).
    """
    from experiments.figures import interactive

    folder = directory / "paper"
    runs = results.read_json(folder / "runs.json")
    found = {
        path.stem: results.read_object(path) for path in sorted(folder.glob("*.json")) if path.stem != "runs"
    }
    with results.shaped(folder / "runs.json"):
        machine, entries = _machine(runs), "\n".join(_run(entry) for entry in runs)
    with results.shaped(folder / "table1.json or figure3.json"):
        summary = _summary(found, folder)
    measured = [_table1(protocol, found, folder) for protocol in PROTOCOLS]
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary=summary,
        table="\n".join(measured),
        feedback=html.escape(feedback_column.described()),
        figures="\n".join(_figure(name, found.get(name), folder, interactive) for name in published.FIGURES),
        augmentation=_augmentation(found.get("augmentation"), folder / "augmentation.json"),
        sweeps=_sweeps(found, folder, interactive),
        traffic=_traffic(directory / "error_feedback" / "traffic.json", interactive),
        protocol=table([dict(zip(("", "paper", "here"), each)) for each in published.DIFFERENCES]),
        machine=machine,
        runs=entries,
        plotly=interactive.script(),
    )
    files.write(directory / "report.html", page)


def table(rows: Sequence[Dict[str, str]]) -> str:
    """Rows of equal keys as an HTML table, which scrolls by itself where it is too wide."""
    if not rows:
        return "<p>Nothing has run yet.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _summary(found: Dict[str, Any], folder: Path) -> str:
    parts = []
    if "table1" in found:
        parts.append(_verdicts(agreement.cells(found["table1"])))
        said = agreement.sentences(found["table1"], found.get("figure3"))
        parts.append("<ul>" + "".join(f"<li>{html.escape(each)}</li>" for each in said) + "</ul>")
    findings = folder / "findings.md"
    if findings.exists():
        text = markdown.markdown(findings.read_text(encoding="utf-8"), extensions=["tables"])
        parts.append(
            text.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        )
    return "\n".join(parts)


def _verdicts(lines: List[Dict[str, str]]) -> str:
    """The table of verdicts, each in a colour and in words; as narrow as a telephone."""
    text = table(lines).replace('class="wide"', 'class="verdicts"')
    for verdict in (agreement.AGREES, agreement.DIFFERS, agreement.UNFINISHED):
        text = text.replace(f"<td>{verdict}</td>", f'<td class="{verdict}">{verdict}</td>')
    return text


def _table1(protocol: str, found: Dict[str, Any], folder: Path) -> str:
    stem = table1.stem(protocol)
    heading = f"<h3>--protocol={protocol}</h3>\n<p>{html.escape(PROTOCOLS[protocol].described)}.</p>"
    if stem not in found:
        return f"{heading}\n{table([])}"
    endings = (("Markdown", "md"), ("CSV", "csv"), ("JSON", "json"))
    links = ", ".join(f'<a href="paper/{stem}.{ending}">{name}</a>' for name, ending in endings)
    with results.shaped(folder / f"{stem}.json"):
        lines = table(table1.table(found[stem]))
    return f'{heading}\n{lines}\n<p class="files">{links}</p>'


def _augmentation(content: Optional[Dict[str, Any]], path: Path) -> str:
    if content is None:
        return table([])
    with results.shaped(path):
        return f"{table(augmentation.table(content))}\n{table(augmentation.parts_table(content))}"


def _figure(name: str, content: Optional[Dict[str, Any]], folder: Path, interactive) -> str:
    heading = f'<h3 id="{name}">{_title(name)}</h3>\n<p>The paper: {html.escape(published.FIGURES[name])}</p>'
    if content is None:
        return f"{heading}\n<p>Not run yet.</p>"
    if name == "figure1":
        image = base64.b64encode((folder / "figure1.png").read_bytes()).decode()
        alt = "A loss surface with two arrows: the steepest descent, and its part in a random basis"
        with results.shaped(folder / "figure1.json"):
            plot = interactive.surface(content, "figure1-plot")
        parts = [f'<img src="data:image/png;base64,{image}" alt="{alt}">', plot]
    else:
        parts = _plots(content, folder / f"{name}.json", name, interactive)
    links = ", ".join(
        f'<a href="paper/{name}.{ending}">{ending.upper()}</a>' for ending in ("png", "svg", "json")
    )
    return f'{heading}\n{_panels(parts)}\n<p class="files">{links}</p>'


def _title(name: str) -> str:
    return f"Figure {name[len('figure') :]}" + (" (ours)" if name == "figure6" else "")


def _plots(content: Dict[str, Any], path: Path, identity: str, interactive) -> List[str]:
    """The panels that a file holds."""
    with results.shaped(path):
        return [interactive.panel(each, f"{identity}-{i}") for i, each in enumerate(content["panels"])]


def _panels(parts: List[str]) -> str:
    return '<div class="panels">' + "".join(f'<div class="panel">{part}</div>' for part in parts) + "</div>"


def _traffic(path: Path, interactive) -> str:
    if not path.exists():
        return "<p>Not run yet.</p>"
    plots = _plots(results.read_object(path), path, "traffic", interactive)
    links = ", ".join(
        f'<a href="error_feedback/traffic.{ending}">{ending.upper()}</a>' for ending in ("png", "svg", "json")
    )
    return f'{_panels(plots)}\n<p class="files">{links}</p>'


def _sweeps(found: Dict[str, Any], folder: Path, interactive) -> str:
    names = [name for name in found if name.startswith("sweep_")]
    parts = []
    for number, name in enumerate(names):  # by its number: a file may have any name
        parts += _plots(found[name], folder / f"{name}.json", f"sweep-{number}", interactive)
    return _panels(parts) if parts else "<p>None has run.</p>"


def _machine(runs: Sequence[Dict[str, Any]]) -> str:
    made_by = [each for run in runs for each in run["made_by"] if each["versions"]]
    kinds = sorted({(str(each["machine"]), _versions(each["versions"])) for each in made_by})
    return table([{"machine": machine, "versions": versions} for machine, versions in kinds])


def _versions(versions: Dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))


def _run(entry: Dict[str, Any]) -> str:
    config = "\n".join(f"{key}: {value}" for key, value in sorted(entry["config"].items()))
    if entry["learning_rate"] is not None:
        config += f"\nlearning rate used: {entry['learning_rate']:g}"
    rows = [
        {
            "seed": seed,
            "epochs": str(each["epochs"]),
            "validation accuracy": "-"
            if each["validation_accuracy"] is None
            else f"{100 * each['validation_accuracy']:.2f}%",
            "": each["status"],
        }
        for seed, each in entry["seeds"].items()
    ]
    name = html.escape(entry["name"])
    return f"<details><summary>{name}</summary><pre>{html.escape(config)}</pre>{table(rows)}</details>"
