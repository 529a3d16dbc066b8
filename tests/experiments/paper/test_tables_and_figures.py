import pytest

from experiments import methods, results, training
from experiments.paper import (
    configurations,
    feedback_column,
    presets,
    protocols,
    runner,
    table1,
    tables_and_figures,
)
from tests.experiments.paper import fabricated


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_planned_run_has_a_valid_configuration(preset):
    planned = runner.merged(tables_and_figures.plan(list(tables_and_figures.ALL), presets.PRESETS[preset]))
    assert len(planned) > 20
    checked = {}
    for run in planned:
        checked[run.series] = run
    for run in checked.values():
        config = configurations.read(run.series.config)
        config.update({**dict(run.series.changes), "epochs": run.epochs, "seed": run.seed})
        training.check_config(config)
        methods.build_optimizer(config)


def test_error_feedback_has_sgds_learning_rate_or_half_of_it():
    preset = presets.PRESETS["paper"]
    for config in (*preset.networks, preset.deep, *presets.PRESETS["smoke"].networks):
        rate = dict(feedback_column.series(config).changes)["learning_rate"]
        sgd = configurations.read(config).learning_rates["sgd"]
        assert rate == (sgd / 2 if config == "fc_fmnist" else sgd)


def test_a_plan_is_a_function_of_its_arguments_and_parts_add_up():
    quick = presets.PRESETS["quick"]
    assert tables_and_figures.plan(["table1"], quick) == tables_and_figures.plan(["table1"], quick)
    both = tables_and_figures.plan(["table1", "figure6"], quick)
    assert both == tables_and_figures.plan(["table1"], quick) + tables_and_figures.plan(["figure6"], quick)


def test_the_paper_has_100_epochs_and_3_seeds():
    preset = presets.PRESETS["paper"]
    planned = tables_and_figures.plan(["table1"], preset)
    is_nes = [dict(run.series.changes)["method"] == "nes" for run in planned]
    assert [run.epochs for run in planned] == [16 if nes else 100 for nes in is_nes]
    assert {run.seed for run in planned} == {0, 1, 2}
    as_the_code = tables_and_figures.plan(["table1"], preset._replace(protocol="code"))
    assert {run.epochs for run in as_the_code} == {100}


def test_projections_are_not_augmented_where_the_papers_table_is_to_come_out():
    for config in presets.PRESETS["paper"].networks:
        plain, augmented = (table1.series(config, each) for each in protocols.PROTOCOLS.values())
        changed = {
            column: dict(set(plain[column].changes) - set(augmented[column].changes)) for column in plain
        }
        assert changed["RBD, error feedback"] == {}
        assert changed["SGD"] == ({"learning_rate": 0.03125} if config == "fc_fmnist" else {})
        for column in ("FPD", "RBD, normal", "RBD, Hadamard"):
            assert changed[column] == {"augment": False, "learning_rate": 0.25}
        rate = {"fc_mnist": 0.125, "cnn_mnist": 0.5}.get(config, 0.25)
        assert changed["NES"] == {"augment": False, "learning_rate": rate}


def test_directories_are_distinct():
    directories = {}
    for preset in presets.PRESETS.values():
        for run in tables_and_figures.plan(list(tables_and_figures.ALL), preset):
            asked = (run.series, run.seed)
            assert directories.setdefault(run.directory(tables_and_figures.Path()), asked) == asked


def test_presets_share_a_directory_of_runs(tmp_path, capsys):
    # CPU times are of the preset's own network.
    small = presets.PRESETS["smoke"]
    larger = presets.PRESETS["quick"]._replace(networks=("fc_mnist",), augmented=("fc_mnist",), shared=())
    for preset, name, numbers in ((small, "smoke", 5), (larger, "quick", 7)):
        fabricated.write(tmp_path / "runs", tmp_path / name, preset, only=("figure2", "figure4"))
        times = results.read_json(tmp_path / name / "paper" / "figure4.json")["cpu_milliseconds"]
        assert len(times["normal"]) == numbers
    assert "nothing has run" not in capsys.readouterr().out


def test_what_has_not_run_is_not_written_over(tmp_path, capsys):
    (tmp_path / "figure3.json").write_text("as it was")
    tables_and_figures.write(["figure3"], presets.PRESETS["smoke"], tmp_path / "runs", tmp_path)
    assert (tmp_path / "figure3.json").read_text() == "as it was"
    assert "figure3: nothing has run yet" in capsys.readouterr().out


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="only=\\['table9'\\] is unknown; allowed: table1, figure1"):
        tables_and_figures.check(["table1", "table9"])
