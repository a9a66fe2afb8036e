"""Optuna's dashboard beside a sweep."""

import socket
import time
import urllib.error
import urllib.request

import pytest
from optuna.study import StudyDirection

from psn_lightning.errors import SettingError
from psn_lightning.sweeps import dashboard
from psn_lightning.sweeps.dashboard import serve_dashboard
from psn_lightning.sweeps.storages import open_storage, storage_url
from psn_lightning.sweeps.sweep import parse
from tests.conftest import CONF


def test_without_the_package_the_sweep_is_refused(monkeypatch):
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match="psn_lightning\\[dashboard\\]"), serve_dashboard("sqlite://"):
        pass


def test_a_port_that_is_taken_is_not_used(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(dashboard, "_PORT", taken.getsockname()[1])
        assert dashboard._find_port() != taken.getsockname()[1]


def test_the_option_is_not_part_of_the_study():
    arguments = ["--config", str(CONF / "sweeps" / "quickstart.yaml")]
    assert parse([*arguments, "--dashboard"])[1] == parse(arguments)[1]


@pytest.mark.services
def test_the_page_answers_and_ends_with_the_block(workdir):
    pytest.importorskip("optuna_dashboard")
    open_storage(None, "x").create_new_study([StudyDirection.MAXIMIZE], "x")
    with serve_dashboard(storage_url(None, "x")) as address:
        studies = _ask(f"{address}/api/studies")
        assert '"study_name": "x"' in studies
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)


def _ask(address):
    until = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(address, timeout=5).read().decode()
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
