"""``psn-train bench`` with small parts."""

import json

import pytest

from psn_lightning.bench import command, scale
from psn_lightning.bench.layers import measure_layers
from psn_lightning.bench.loops import run_loop
from psn_lightning.bench.roofline import measure_roofline
from psn_lightning.cli import main


def test_files_are_written_after_each_part(tmp_path, monkeypatch, capsys):
    def fail():
        raise KeyboardInterrupt

    parts = [("layers", lambda: measure_layers((16,), (128,), (0.5,), 0.0)), ("broken", fail)]
    monkeypatch.setattr(command, "_QUICK", parts)
    with pytest.raises(KeyboardInterrupt):
        command.run(["--quick", "--out", str(tmp_path)])
    assert len(json.loads((tmp_path / "bench.json").read_text())["rows"]) > 1
    monkeypatch.setattr(command, "_QUICK", parts[:1])
    command.run(["--quick", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md", "bench_layers.png"}
    assert "One layer" in capsys.readouterr().out


def test_a_wrong_argument_is_a_short_message(capsys):
    assert main(["bench", "--quik"]) == 2
    assert "--quick" in capsys.readouterr().err


def test_roofline_of_small_sizes(monkeypatch):
    monkeypatch.setattr("psn_lightning.bench.roofline._SIDE", 8)
    monkeypatch.setattr("psn_lightning.bench.roofline._COPIED", 64)
    assert all(row["rate"] > 0 for row in measure_roofline(0.0))


def test_a_point_of_the_scale():
    found = scale.train(64)
    assert found["connections"] == 60 * 64
    assert found["bytes"] > 2**20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "masked", "csr"])
def test_a_loop_learns(kind):
    assert len(run_loop(kind, "FashionMNIST", 0.9, 1)) == 1
