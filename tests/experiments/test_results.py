import pytest

from experiments import results


def test_json_round_trip_leaves_no_other_file(tmp_path):
    path = tmp_path / "result.json"
    results.write_json(path, {"b": [1.5, 2], "a": None})
    results.write_json(path, {"a": 1})
    assert results.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_json_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "result.json"
    path.write_text('{"a": ')
    with pytest.raises(results.DamagedError, match="result.json is not a JSON file"):
        results.read_json(path)
    path.write_bytes(b"\xff")
    with pytest.raises(results.DamagedError, match="result.json is damaged: .*utf-8"):
        results.read_json(path)
    path.write_text("[]")
    with pytest.raises(results.DamagedError, match="result.json is damaged"):
        results.read_object(path)


def test_metrics_of_a_killed_run(tmp_path):
    path = tmp_path / "metrics.csv"
    assert results.read_metrics(path) == []
    path.write_text("epoch,loss,seconds\n0,1.5,2\n1,1.25,3\n2,0.5")  # killed while writing
    assert [row["loss"] for row in results.read_metrics(path)] == [1.5, 1.25]
    results.keep_epochs(path, 1)
    assert path.read_text().splitlines() == ["epoch,loss,seconds", "0,1.5,2"]
    with pytest.raises(results.DamagedError, match="metrics.csv has 1 whole rows; needed: 2"):
        results.keep_epochs(path, 2)
    results.keep_epochs(path, 1, tmp_path / "worker.csv")
    assert (tmp_path / "worker.csv").read_bytes() == path.read_bytes()
    results.keep_epochs(path, 0, tmp_path / "worker.csv")
    assert path.exists() and not (tmp_path / "worker.csv").exists()
    results.keep_epochs(path, 0)
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epoch,loss\n1,0.5\n", r"metrics.csv, row 1, '1,0.5': .*epoch 0"),
        (b"epoch,loss\n0,0.5\n2,0.5\n", r"row 2, '2,0.5': .*epoch 1"),
        (b"epoch,loss\n1,0.5\n0,0.5\n", r"row 1, '1,0.5': .*epoch 0"),
        (b"epoch,loss\n0,0.5\n1\n", r"row 2, '1': it must have 2 numbers"),
        (b"epoch,loss\n0,0.5\n1,0.5,0.5\n", r"row 2, .*: it must have 2 numbers"),
        (b"epoch,loss\n0,0.5\n1,\n", r"row 2, '1,': could not convert"),
        (b"epoch,loss\n0,0x5\n", r"row 1, '0,0x5': could not convert"),
        (b"epohc,loss\n0,0.5\n", r"row 1, .*epoch 0"),
        (b"epoch,loss\n0,0.5\xff\n", "metrics.csv is damaged: .*utf-8"),
    ],
)
def test_metrics_are_numbers_of_each_epoch_in_order(content, message, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    for read in (results.read_metrics, lambda path: results.keep_epochs(path, 1)):
        with pytest.raises(results.DamagedError, match=message):
            read(path)
    assert path.read_bytes() == content


def test_table_is_aligned():
    table = results.format_table([{"a": "1", "long": "x"}, {"a": "100", "long": "y"}])
    lines = table.splitlines()
    assert lines[0] == "| a   | long |"
    assert lines[3] == "| 100 | y    |"
    assert len({len(line) for line in lines}) == 1
