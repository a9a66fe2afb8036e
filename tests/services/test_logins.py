"""Nobody is let in: the server of docker/compose.yaml asks for a password, and no password is written down."""

from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlflow
import pytest

from psn_lightning.cli import main
from tests.conftest import CONF, QUIET
from tests.services.conftest import PASSWORD

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=2"]


def status(address, **headers):
    """What an HTTP request is answered with."""
    try:
        with urlopen(Request(address, headers=headers), timeout=10) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


@pytest.fixture
def log_in(monkeypatch):
    def logged_in(user, password):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return logged_in


def test_the_server_answers_who_has_its_password(workdir, compose_server, log_in, capfd):
    for path in ("", "api/2.0/mlflow/experiments/get?experiment_id=0", "ajax-api/2.0/mlflow/experiments/get", "signup"):
        assert status(f"{compose_server}/{path}") == 401, path
    assert status(f"{compose_server}/api/2.0/mlflow-artifacts/artifacts") == 401
    assert status(f"{compose_server}/", Host="elsewhere.example") == 403  # a page elsewhere, under our address

    for user, password in (("", ""), ("psn", "wrong"), ("admin", PASSWORD), ("admin", "password1234")):
        log_in(user, password)
        assert main([*FIT, f"--tracking.uri={compose_server}"]) == 2
        error = capfd.readouterr().err
        assert f"tracking.uri '{compose_server}' wants a login" in error
        assert "MLFLOW_TRACKING_PASSWORD" in error
        assert "Traceback" not in error

    log_in("psn", PASSWORD)
    assert main([*FIT, f"--tracking.uri={compose_server}"]) == 0
    client = mlflow.MlflowClient(compose_server)
    (run,) = client.search_runs([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert run.info.status == "FINISHED"
    assert {artifact.path for artifact in client.list_artifacts(run.info.run_id)} >= {"config.yaml", "checkpoints"}


def test_a_databases_password_is_nowhere(workdir, databases, capfd):
    uri = databases[0].replace("psn@", f"psn:{PASSWORD}@")  # trusted whatever it is
    assert main([*FIT, f"--tracking.uri={uri}"]) == 0
    printed = capfd.readouterr()
    assert "psn:***@" in printed.out  # the command that shows the runs
    assert PASSWORD not in printed.out + printed.err
    client = mlflow.MlflowClient(databases[0])
    (run,) = client.search_runs([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert run.data.params["tracking.uri"] == uri.replace(PASSWORD, "***")
    assert PASSWORD not in str(run.to_dictionary())
    files = [path for path in workdir.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".yaml", ".ckpt"}
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
