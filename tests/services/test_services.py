"""Fits and sweeps against a real PostgreSQL and a real MLflow server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from optuna.trial import TrialState

from psn_lightning.cli import main
from tests.conftest import CONF, QUIET, ROOT, require
from tests.helpers.sweeps import FASHION, assert_whole, finished, kill_a_worker, start, study
from tests.services.conftest import free_port

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


def test_a_fit_on_the_server(workdir, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET]) == 0
    client = mlflow.MlflowClient(server)
    (run,) = client.search_runs([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] > 0.9
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {"config.yaml", "checkpoints", "connectivity"}
    assert main(["compare", "--metric", "test/accuracy"]) == 0


def test_a_killed_workers_trial_is_tried_again_on_postgresql(workdir, server, databases):
    require("fashion")
    storage = databases[1]
    arguments = ["--workers", "2", "--storage", storage]
    process = start(workdir, FASHION, *arguments, MLFLOW_TRACKING_URI=server)
    killed = kill_a_worker(workdir, FASHION, storage)
    printed = finished(process)
    assert f"trial {killed.user_attrs['ticket']}: its worker died" in printed
    assert_whole(workdir, FASHION, 12, server, storage, died=1)
    printed = finished(start(workdir, FASHION, *arguments, MLFLOW_TRACKING_URI=server))
    assert "all 12 trials are done, nothing is left to do" in printed


def test_two_commands_share_one_study(workdir, server, databases):
    sweep = {**FASHION, "name": "shared", "base": [str(CONF / "quickstart.yaml")], "trials": 6}
    sweep["settings"] = {"trainer.max_epochs": 3, "data.init_args.val_fraction": 0.2}
    arguments = ["--storage", databases[1]]
    folders = [workdir / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
    both = [start(folder, sweep, *arguments, MLFLOW_TRACKING_URI=server) for folder in folders]
    for process in both:
        finished(process)
    # Both may have filled the study at once: the second trial of a ticket is taken back, which is no death.
    twice = [t for t in study(workdir, sweep, databases[1]).get_trials() if t.state == TrialState.FAIL]
    assert all(trial.user_attrs["reason"] == "the ticket has another trial" for trial in twice)
    assert_whole(workdir, sweep, 6, server, databases[1], died=len(twice))


def test_one_database_for_both_is_refused(workdir, databases, capfd):
    path = workdir / "sweep.yaml"
    path.write_text((CONF / "sweeps" / "quickstart.yaml").read_text().replace("../", f"{CONF}/"))
    same = databases[0].replace("127.0.0.1", "localhost").replace("+psycopg", "")
    environment = pytest.MonkeyPatch()
    with environment.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", databases[0])
        assert main(["sweep", "--config", str(path), "--storage", same]) == 2
    assert "is the database that MLflow uses" in capfd.readouterr().err


def test_the_readme_without_docker(workdir, postgres):
    """Line by line, on other ports."""
    text = (ROOT / "docker" / "README.md").read_text()
    (script,) = [block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "createdb" in block]
    script = script.replace("5432", str(postgres)).replace("5000", str(free_port()))
    (workdir / "conf").symlink_to(CONF)
    folders = [str(Path(sys.executable).parent), str(sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1])]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill %1' EXIT\n{script}"],
        cwd=workdir,
        env={**os.environ, "PATH": os.pathsep.join([*folders, os.environ["PATH"]])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    printed = " ".join(done.stdout.split())
    complete, pruned = re.search(r"Study quickstart: (\d+) complete, (\d+) pruned, 0 failed", printed).groups()
    assert int(complete) + int(pruned) == 8
    assert re.search(r"Trained again \(.*\), 3 new seeds: test accuracy 0\.9\d+ ± ", printed)
    table = printed.partition(" configuration ")[2]  # compare's
    assert table.count("drop_fraction") > 1
