"""Each wrong input: exit code 2, three lines at most, nothing written anywhere; docs/errors.md has them all."""

import re

import pytest

from psn_lightning.cli import main
from tests.bad_inputs import CASES
from tests.conftest import CONF, ROOT

DOCS = ROOT / "docs" / "errors.md"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def row_of(case, message, folder):
    """The case as a line of the docs."""
    command = " ".join(case.arguments).replace(f"{CONF}/", "conf/")
    told = message.removeprefix("psn-train: ").replace(f"{folder}/", "").replace(str(folder), "…")
    told = re.sub(r"0x[0-9a-f]+|\b\d{5}\b(?= is in use)", "…", " ".join(told.split()))
    return f"| {case.what} | `psn-train {command}` | {told.replace('|', '/').replace('<', '‹')} |"


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
    assert "Traceback" not in printed
    for name in case.names:
        assert name in message
    assert files(tmp_path) == before
    assert row_of(case, message, tmp_path) in DOCS.read_text(), "docs/errors.md: python docs/make_errors.py"


def test_there_are_sixty_at_least():
    assert len({case.what for case in CASES}) == len(CASES) >= 60
