"""A PostgreSQL and an MLflow server of our own, on free ports, in scratch folders."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

from tests.conftest import ROOT

DOCKER = ROOT / "docker"
PASSWORD = "a-password-of-ours"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _binaries():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        pytest.fail("these tests need Debian's postgresql: apt-get install postgresql")
    return found[-1].parent


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """Port of a server that trusts its user psn, and which has no database of ours yet."""
    binaries, port = _binaries(), free_port()
    folder = tmp_path_factory.mktemp("postgres")
    as_user = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        for parent in [folder, *folder.parents][:4]:
            parent.chmod(parent.stat().st_mode | 0o755)
        as_user = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    run = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*as_user, binaries / "initdb", "-D", data, "-U", "psn", "-A", "trust"], **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*as_user, binaries / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], **run)
    yield port
    subprocess.run([*control, "-m", "immediate", "stop"], **run)


@pytest.fixture
def databases(postgres):
    """URLs of empty databases for MLflow and for Optuna."""
    names = [f"{kind}_{time.monotonic_ns()}" for kind in ("mlflow", "optuna")]
    for name in names:
        createdb = [_binaries() / "createdb", "-h", "127.0.0.1", "-p", str(postgres), "-U", "psn", name]
        subprocess.run(createdb, check=True)
    return [f"postgresql+psycopg://psn@127.0.0.1:{postgres}/{name}" for name in names]


@pytest.fixture
def server(databases, tmp_path):
    """Address of an MLflow server that keeps its runs in PostgreSQL and its artifacts in a folder."""
    stores = ["--backend-store-uri", databases[0], "--artifacts-destination", tmp_path / "artifacts"]
    with _served(free_port(), stores, tmp_path) as uri:
        yield uri


@pytest.fixture
def compose_server(databases, tmp_path):
    """Address of the server of docker/compose.yaml: its command and environment, on other ports and paths."""
    port, service = free_port(), yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["mlflow"]
    ours = {"postgresql+psycopg://psn@postgres:5432/mlflow": databases[0]}
    ours |= {f"/{name}": str(tmp_path / name) for name in ("artifacts", "auth.ini")}
    (tmp_path / "auth.ini").write_text(_changed((DOCKER / "auth.ini").read_text(), ours))
    passwords = {"MLFLOW_PASSWORD": PASSWORD, "MLFLOW_SECRET_KEY": "key", "POSTGRES_PASSWORD": ""}
    environment = {
        name: passwords[found[1]] if (found := re.match(r"\$\{(\w+):\?", value)) else _changed(value, ours)
        for name, value in service["environment"].items()
    }
    words = [_changed(word, ours) for word in service["command"] if not word.startswith(("--host=", "--port="))]
    assert words[:2] == ["mlflow", "server"]
    with _served(port, words[2:], tmp_path, environment) as uri:
        yield uri


def _changed(text, replacements):
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


@contextmanager
def _served(port, options, folder, environment=None):
    command = [Path(sys.executable).with_name("mlflow"), "server", *options]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "mlflow.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *where], stdout=log, stderr=log, start_new_session=True, env=os.environ | (environment or {})
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{uri}/health", process)
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def _wait_for(address, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(address, timeout=2).close()
        except (URLError, OSError):
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"{address} does not answer")
