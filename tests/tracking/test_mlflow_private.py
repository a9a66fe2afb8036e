"""Each private name of MLflow is there and does what this package needs: an upgrade that changes one fails here."""

import logging
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

import psn_lightning
from psn_lightning.tracking import mlflow_private
from psn_lightning.tracking.mlflow_private import context_tags, ping, silence_database_log


@pytest.fixture
def run_id(client):
    return client.create_run(client.create_experiment("e")).info.run_id


def test_context_tags_name_user_and_program():
    tags = context_tags({"k": "v", "mlflow.user": "somebody"})
    assert tags["k"] == "v"
    assert tags["mlflow.user"] == "somebody"  # what is given wins
    assert "mlflow.source.name" in tags


def test_the_tags_of_a_nested_run_and_of_the_versions_of_a_model():
    assert mlflow_private.MLFLOW_PARENT_RUN_ID == "mlflow.parentRunId"
    assert mlflow_private.MLFLOW_MODEL_VERSIONS == "mlflow.modelVersions"


def test_a_longer_parameter_is_cut(client, run_id):
    size = mlflow_private.MAX_PARAM_VAL_LENGTH
    client.log_batch(run_id, params=[Param("a", "x" * size), Param("b", "x" * (size + 1))])
    assert {key: len(value) for key, value in client.get_run(run_id).data.params.items()} == {"a": size, "b": size}


def test_a_longer_name_is_refused(client, run_id):
    size = mlflow_private.MAX_ENTITY_KEY_LENGTH
    client.log_batch(run_id, metrics=[Metric("x" * size, 1.0, 0, 0)])
    with pytest.raises(MlflowException, match=str(size)):
        client.log_batch(run_id, metrics=[Metric("x" * (size + 1), 1.0, 0, 0)])


SERVER = (
    "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
    "while True: c, _ = s.accept(); c.recv(9999); c.sendall({answer}); c.close()"
)


@pytest.fixture
def serve():
    processes = []

    def address(answer):
        code = SERVER.format(answer=answer)
        processes.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        return f"http://127.0.0.1:{int(processes[-1].stdout.readline())}"

    yield address
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "404 Not Found"])
def test_any_http_answer_is_one(status, serve):
    ping(serve(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()), 5.0)


def test_an_answer_in_another_protocol_is_none(serve):
    with pytest.raises(OSError, match="SSH"):
        ping(serve(b"SSH-2.0-x\r\n"), 5.0)


def test_no_answer_is_named():
    with pytest.raises(OSError, match="Connection refused"):
        ping("http://127.0.0.1:9", 5.0)


def test_a_server_that_hangs_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as hanging, pytest.raises(OSError, match="timed out"):
        ping(f"http://127.0.0.1:{hanging.getsockname()[1]}", 0.2)


def test_no_traceback_of_a_database_is_logged(workdir, caplog):
    """MLflow logs one, beside the error that it raises."""
    client = MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db")
    (workdir / "mlruns" / "mlflow.db").write_bytes(b"")
    logger = logging.getLogger("mlflow.store.db.utils")
    before, logger.propagate = (logger.level, logger.propagate), True
    try:
        for silent in (False, True):
            caplog.clear()
            silence_database_log() if silent else logger.setLevel(logging.ERROR)
            with caplog.at_level(logging.NOTSET), pytest.raises(MlflowException):
                client.search_experiments()
            told = [record for record in caplog.records if record.name == logger.name]
            assert bool(told) is not silent
    finally:
        logger.level, logger.propagate = before


PRIVATE = re.compile(r"(from|import) mlflow\.(utils|store|tracking|protos|environment_variables)|mlflow\._")


def test_no_other_module_uses_a_private_name():
    package = Path(psn_lightning.__file__).parent
    found = [path for path in package.rglob("*.py") if PRIVATE.search(path.read_text())]
    assert [str(path.relative_to(package)) for path in found] == ["tracking/mlflow_private.py"]
