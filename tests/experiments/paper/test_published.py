import pytest

from experiments.paper import configurations, presets, published


@pytest.mark.parametrize("config", published.TABLE_1)
def test_table_1_agrees_with_itself(config):
    cells = published.TABLE_1[config]
    for accuracy in cells.values():
        assert accuracy.mean / cells["sgd"].mean == pytest.approx(accuracy.relative, abs=0.0101)
    means = [cells[method].mean for method in ("nes", "fpd", "rbd", "sgd")]
    assert means == sorted(means)


@pytest.mark.parametrize("config", published.TABLE_1)
def test_configurations_have_the_papers_dimensions(config):
    assert configurations.read(config).dimensions == published.DIMENSIONS
    assert config in published.NETWORKS


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_say_what_the_configurations_do(name):
    preset = presets.PRESETS[name]
    config = configurations.read(preset.main.config)
    assert config.dimensions == preset.main.dimensions
    assert {method: config.learning_rates[method] for method in ("sgd", "rbd")} == preset.main.rates
    assert set(preset.table) == set(preset.networks)
    for stem in (*preset.networks, preset.deep, *preset.shared):
        assert configurations.path(stem).exists()
