"""The page, and the tables and figures it shows, made of runs whose results are known."""

import csv
import re
import shutil
from html.parser import HTMLParser

import pytest

from experiments import results
from experiments.figures import panels
from experiments.paper import (
    augmentation,
    figure3,
    presets,
    protocols,
    report,
    runs,
    series_index,
    table1,
    tables_and_figures,
)
from experiments.paper.configurations import ROOT
from tests.experiments.paper import fabricated

pytest.importorskip("plotly", reason="the page needs plotly: pip install -e '.[experiments]'")
pytest.importorskip("tqdm", reason="runs need tqdm: pip install -e '.[experiments]'")


# With a table that is wider than a telephone.
FINDINGS = f"Found: **a reason**.\n\n| {' | '.join(['a column'] * 12)} |\n{'|--' * 12}|\n{'| 1 ' * 12}|\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Results of made-up runs, with the page."""
    workdir = tmp_path_factory.mktemp("runs")
    directory = tmp_path_factory.mktemp("results")
    fabricated.write(workdir, directory)
    (directory / "paper" / "findings.md").write_text(FINDINGS)
    report.write(directory)
    return directory


def test_the_page_shows_traffic_where_it_was_measured(directory, tmp_path):
    assert 'id="traffic-0"' not in (directory / "report.html").read_text(encoding="utf-8")
    shutil.copytree(directory / "paper", tmp_path / "paper")
    line = panels.line("with memory", [100, 1000], [81.5, 97.25])
    panel = panels.panel("Title", "bytes", "accuracy", [line], xscale="log")
    (tmp_path / "error_feedback").mkdir()
    panels.write({"rows": [], "panels": [panel]}, tmp_path / "error_feedback", "traffic")
    report.write(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="traffic-0"' in text and "with memory" in text and "97.25" in text
    for link in re.findall('href="(error_feedback/[^"]*)"', text):
        assert (tmp_path / link).exists()
    assert len(re.findall('href="error_feedback/', text)) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("runs.json", "[{}]"),
        ("runs.json", '{"a": 1}'),
        ("table1.json", "[]"),
        ("table1.json", '{"protocol": "table", "rows": [{}]}'),
        ("table1.json", '{"protocol": "tables", "rows": []}'),
        ("figure3.json", '{"panels": 3}'),
        ("figure1.json", "{}"),
        ("sweep_a.json", '{"panels": [{"lines": [1]}]}'),
        ("augmentation.json", "{}"),
        ("figure4.json", b"\xff"),
        ("figure5.json", "{"),
    ],
)
def test_a_file_of_another_shape_is_named(name, content, directory, tmp_path):
    shutil.copytree(directory / "paper", tmp_path / "paper")
    path = tmp_path / "paper" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(results.DamagedError, match=name):
        report.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", b"\xff"),
        ("result.json", b"[]"),
        ("result.json", b'{"status": "ended"}'),
        ("result.json", b'{"status": "finished", "config": {"epochs": "many"}}'),
        ("result.json", b'{"status": "finished", "config": {"epochs": 10}, "seconds": "2"}'),
        ("config.json", b"7"),
        ("config.json", b'{"epochs": null}'),
        ("metrics.csv", b"epoch,accuracy,val_accuracy\n0,0.5,half\n"),
        ("metrics.csv", b"epoch,accuracy,val_accuracz\n0,0.5,0.5\n"),
    ],
)
def test_a_file_of_a_run_of_another_shape_is_named(name, content, tmp_path):
    run = runs.series("fc_digits", "sgd").runs(10, 1)[0]
    fabricated.leave(run, tmp_path)
    path = run.directory(tmp_path) / name
    path.write_bytes(content)
    with pytest.raises(results.DamagedError, match=str(path)):
        series_index.collect(tmp_path)
    with pytest.raises(results.DamagedError, match=str(path)):
        runs.state(run, tmp_path)
        runs.measured(run.series, tmp_path)


def test_a_sweeps_name_is_not_part_of_the_page(directory, tmp_path):
    shutil.copytree(directory / "paper", tmp_path / "paper")
    line = panels.line("validation", [0.5, 1.0], [81.5, 97.25])
    panel = panels.panel('<img src="x" onerror="alert(1)">', "rate", "accuracy", [line])
    results.write_json(tmp_path / "paper" / 'sweep_"><script>alert(1)<.json', {"panels": [panel]})
    report.write(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "97.25" in text and 'id="sweep-0-0"' in text
    assert "<script>alert(1)" not in text and 'src="x" onerror' not in text


def test_table_1_says_what_was_measured(directory):
    content = results.read_json(directory / "paper" / "table1.json")
    digits = content["rows"][0]["cells"]
    assert content["rows"][0]["network"] == "fc_digits"
    assert digits["SGD"]["measured"]["mean"] == pytest.approx(90)
    assert digits["FPD"]["measured"]["relative"] == pytest.approx(0.4 / 0.9)
    lines = (directory / "paper" / "table1.md").read_text().splitlines()
    assert "70.00 (0.78), 1 x 10" in lines[2] and len(lines) == 4
    with (directory / "paper" / "table1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 6 and {row["source"] for row in rows} == {"here"}
    assert [float(row["mean"]) for row in rows if row["column"] == "NES"] == pytest.approx([20, 20])


def test_what_ran_in_another_working_directory_stays_in_the_table(tmp_path):
    preset = fabricated.PRESET._replace(networks=("fc_digits",), seeds=2)
    fabricated.write(tmp_path / "runs", tmp_path / "all", preset, only=("table1",))
    folder = tmp_path / "all" / "paper"
    whole, entries = results.read_json(folder / "table1.json"), results.read_json(folder / "runs.json")
    names = {column: cell["name"] for column, cell in whole["rows"][0]["cells"].items()}
    # Another working directory: one seed, with another accuracy; and one that has not got so far.
    for column, seed in (("FPD", "seed1"), ("SGD", "seed0")):
        place = f"fc_digits/{names[column]}/{seed}"
        shutil.copytree(tmp_path / "runs" / place, tmp_path / "others" / place)
    metrics = tmp_path / "others" / "fc_digits" / names["FPD"] / "seed1" / "metrics.csv"
    metrics.write_text(re.sub(r"\n9,.*", "\n9,0.5,0.6", metrics.read_text()))
    metrics = tmp_path / "others" / "fc_digits" / names["SGD"] / "seed0" / "metrics.csv"
    metrics.write_text("\n".join(metrics.read_text().splitlines()[:6]) + "\n")
    tables_and_figures.write(["table1"], preset, tmp_path / "others", folder)
    series_index.write(tmp_path / "others", folder)
    cells, before = (each["rows"][0]["cells"] for each in (results.read_json(folder / "table1.json"), whole))
    assert {name for name in cells if cells[name] == before[name]} == set(cells) - {"FPD"}
    assert cells["FPD"]["measured"]["accuracies"] == pytest.approx({"0": 40, "1": 60})
    content = results.read_json(folder / "table1.json")
    nes = content["rows"][0]["cells"]["NES"]["measured"]
    nes.update(epochs=3, relative=0.5)  # to SGD's after three epochs
    (same,) = table1.with_earlier(content, content)["rows"]
    assert same["cells"]["NES"]["measured"]["relative"] == pytest.approx(0.5)
    content = results.read_json(folder / "table1.json")
    content["rows"][0]["cells"]["SGD"]["measured"]["mean"] /= 2
    again = table1.with_earlier(content, {"rows": []})["rows"][0]["cells"]
    # Also of what has not run anew.
    assert again["NES"]["measured"]["relative"] == pytest.approx(2 * cells["NES"]["measured"]["relative"])
    for key, value in {"mean": 50, "deviation": 10 * 2**0.5, "relative": 50 / 90.5, "runs": 2}.items():
        assert cells["FPD"]["measured"][key] == pytest.approx(value)
    found = {entry["name"]: entry["seeds"] for entry in results.read_json(folder / "runs.json")}
    for entry in entries:
        if entry["name"] == f"fc_digits/{names['FPD']}":
            entry["seeds"]["1"]["validation_accuracy"] = 0.6
        assert found.pop(entry["name"]) == entry["seeds"]
    assert not found


def test_relative_is_to_sgd_after_as_many_epochs_and_what_diverged_is_counted(tmp_path):
    preset = fabricated.PRESET._replace(networks=("fc_digits",), deep="fc_digits", seeds=3)
    fabricated.write(tmp_path / "runs", tmp_path / "all", preset, only=("table1", "figure3"))
    series = table1.series("fc_digits", protocols.PROTOCOLS["table"])
    last = series["RBD, Hadamard"].runs(10, 3)[2]
    for run in series["FPD"].runs(10, 3):
        rows = (run.directory(tmp_path / "runs") / "metrics.csv").read_text().splitlines()
        (run.directory(tmp_path / "runs") / "metrics.csv").write_text("\n".join(rows[:6]) + "\n")
    shown = figure3.series("fc_digits")
    for run in (last, *series["NES"].runs(10, 3), *shown["RBD"].runs(2, 1), *shown["NES"].runs(2, 1)):
        (run.directory(tmp_path / "runs") / "result.json").write_text('{"status": "diverged"}')
    content = table1.content(preset, tmp_path / "runs")
    (row,) = content["rows"]
    fpd, sgd = (runs.measured(series[name], tmp_path / "runs", 5).mean for name in ("FPD", "SGD"))
    assert row["cells"]["FPD"]["measured"]["epochs"] == 5
    assert row["cells"]["FPD"]["measured"]["relative"] == pytest.approx(fpd / sgd)
    (line,) = table1.table(content)
    assert line["RBD, Hadamard"].endswith(", 2 x 10, 1 diverged") and line["NES"] == "3 diverged"
    table1.write(content, tmp_path)
    with (tmp_path / "table1.csv").open() as file:
        (nes,) = [each for each in csv.DictReader(file) if each["column"] == "NES"]
    assert (nes["mean"], nes["diverged"]) == ("", "3")
    (curves,) = figure3.content(preset, tmp_path / "runs")["panels"]
    assert curves["title"].endswith("(diverged: RBD, NES)")


def test_figures_have_the_lines_of_their_runs(directory):
    paper = directory / "paper"
    (curves,) = results.read_json(paper / "figure3.json")["panels"]
    labels = ["SGD", "RBD", "FPD", "NES", "RBD, error feedback"]
    assert [line["label"] for line in curves["lines"]] == labels
    gaps = results.read_json(paper / "figure3.json")["gaps"]
    assert gaps["measured"] == pytest.approx({"fpd": 30, "nes": 50}) and gaps["epochs"] == 2
    accuracy, time = results.read_json(paper / "figure4.json")["panels"]
    assert accuracy["lines"][0]["x"] == [1, 2, 5, 10, 20] == time["lines"][0]["x"]
    # SGD has run for ten epochs, the others for five: all are shown after five.
    (panel,) = results.read_json(paper / "figure6.json")["panels"]
    assert panel["lines"][0]["x"][-1] == 9610 and panel["lines"][2]["y"] == pytest.approx([65, 65])
    assert panel["lines"][1]["label"] == "with error feedback" and panel["lines"][1]["x"][0] == 100
    for number in range(1, 7):
        assert (paper / f"figure{number}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (paper / f"figure{number}.svg").read_text()[:1000]


class Page(HTMLParser):
    """Collects links, sources and identities."""

    def __init__(self, text):
        super().__init__()
        self.links, self.sources, self.identities = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag == "a":
            self.links.append(named["href"])
        if "src" in named or tag == "link":
            self.sources.append(named.get("src", named.get("href")))
        if "id" in named:
            self.identities.append(named["id"])


def test_the_page_needs_no_network_and_its_links_work(directory):
    page = Page((directory / "report.html").read_text(encoding="utf-8"))
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert len(page.identities) == len(set(page.identities))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.identities, link
        elif not link.startswith("https://"):
            assert (directory / link).exists(), link
    assert len([link for link in page.links if link.startswith("paper/")]) == 6 * 3 + 3


def test_parts_of_the_augmentation_are_compared_after_as_many_epochs(tmp_path):
    fabricated.write(tmp_path / "runs", tmp_path / "all", only=("augmentation",))
    (part,) = augmentation.parts("fc_digits")["crops only"].runs(10, 1)
    metrics = part.directory(tmp_path / "runs") / "metrics.csv"
    metrics.write_text("\n".join(metrics.read_text().splitlines()[:7]) + "\n")
    found = augmentation.content(fabricated.PRESET, tmp_path / "runs")
    rows = augmentation.parts_table(found)
    assert [row["augmentation"] for row in rows] == list(augmentation.parts("fc_digits"))
    # Curves rise evenly from half of 40% to 40%.
    assert {row["fc_digits, FPD, 6 epochs"] for row in rows} == {f"{40 * (0.5 + 0.5 * 5 / 9):.2f}"}
    text = (tmp_path / "all" / "paper" / "augmentation.md").read_text()
    assert "| crops only " in text and "fc_digits, FPD, 10 epochs" in text


def test_the_results_in_the_repository_give_a_page(tmp_path):
    for name in ("paper", "error_feedback"):
        shutil.copytree(ROOT / "results" / name, tmp_path / name)
    report.write(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (mnist, *_) = results.read_json(tmp_path / "paper" / "table1.json")["rows"]
    assert f"{mnist['cells']['SGD']['measured']['mean']:.2f}" in text


def test_the_page_says_what_people_found_and_what_ran(directory):
    text = (directory / "report.html").read_text(encoding="utf-8")
    assert "Found: <strong>a reason</strong>." in text
    assert "fc_digits/rbd-hadamard-compartments=5" in text and "compartments: 5" in text
    assert "made up" in text and "tensorflow 2.x" in text
    assert "<td>brightness only</td><td>40.00</td>" in text


def test_text_is_escaped():
    assert "&lt;b&gt;" in report.table([{"<a>": "<b>"}])


def test_the_papers_numbers_stand_beside_ours(tmp_path):
    quick = presets.PRESETS["quick"]._replace(networks=("fc_mnist",), augmented=("fc_mnist",))
    fabricated.write(tmp_path / "runs", tmp_path, quick, only=("table1",))
    table = (tmp_path / "paper" / "table1.md").read_text()
    assert "93.89 ± 0.02 (0.96)" in table and "70.00 (0.78), 1 x 20" in table
    report.write(tmp_path)
    assert '<td class="unfinished">unfinished</td>' in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- In a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in paths:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    yield driver
    driver.quit()


def show(browser, directory, width, media="screen"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    browser.get((directory / "report.html").as_uri())
    browser.execute_script("fit()")


@pytest.mark.parametrize("width, media", [(360, "screen"), (1280, "screen"), (700, "print")])
def test_the_page_in_a_browser(browser, directory, width, media):
    show(browser, directory, width, media)
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    plots = browser.find_elements("css selector", ".plotly-graph-div")
    panels = [
        len(results.read_json(path).get("panels", "1")) for path in (directory / "paper").glob("figure*.json")
    ]
    assert len(plots) == sum(panels)
    for plot in plots:
        assert plot.find_elements("css selector", ".main-svg"), plot.get_attribute("id")
        assert plot.rect["width"] <= width and plot.rect["height"] > 200
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert all(browser.execute_script("return [...document.images].map(image => image.naturalWidth)"))


@pytest.mark.parametrize("width", [360, 1280])
def test_the_committed_page_opens_with_verdicts_and_does_not_scroll_sideways(browser, tmp_path, width):
    for name in ("paper", "error_feedback"):
        shutil.copytree(ROOT / "results" / name, tmp_path / name)
    report.write(tmp_path)
    show(browser, tmp_path, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    (verdicts,) = browser.find_elements("css selector", ".verdicts")
    assert verdicts.find_element("css selector", "table").rect["width"] <= width
    assert verdicts.find_element("css selector", ".agrees").rect["x"] < width


def test_points_can_be_hovered(browser, directory):
    show(browser, directory, 1280)
    script = (
        "const plot = document.getElementById('figure3-0'); plot.scrollIntoView();"
        "Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 1}]);"
        "return [...plot.querySelectorAll('.hovertext')].map(text => text.textContent)"
    )
    (text,) = browser.execute_script(script)
    assert re.search("2: 90", text)
