"""Each wrong input: exit code 2, a short message that names the culprit, no traceback, nothing left behind."""

import re

import pytest

from psn_lightning.cli import main
from tests.helpers.bad_inputs import CASES


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("case", CASES, ids=[case.what.replace(" ", "-") for case in CASES])
def test_it_is_told_and_leaves_nothing(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "PSN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no data set is found there
    held = case.files(tmp_path) if case.files else None
    if (tmp_path / "port").exists():
        monkeypatch.setenv("MASTER_PORT", (tmp_path / "port").read_text())
    before = files(tmp_path)
    code = main(case.arguments)
    printed = capsys.readouterr().err
    del held
    assert code == 2, printed
    message = printed[printed.index("psn-train: ") :].strip()
    assert len(message.splitlines()) <= 3
    assert len(message) <= 1000
    assert "Traceback" not in printed
    assert not re.search(r"\b(\S+): did you mean \1\?", message)
    for name in case.names:
        assert name in message
    assert files(tmp_path) == before


def test_there_are_sixty_at_least():
    assert len({case.what for case in CASES}) == len(CASES) >= 60
