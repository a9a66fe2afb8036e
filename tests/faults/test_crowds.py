"""Many processes at once on one store, one data set, one report."""

import mlflow

from tests.conftest import CONF, ROOT
from tests.faults.running import FIT, finished, start, store_of


def test_eight_fits_into_one_new_store(tmp_path):
    processes = [start(tmp_path, *FIT, "--trainer.max_epochs=5", f"--seed_everything={seed}") for seed in range(8)]
    for process in processes:
        finished(process)
    client = mlflow.MlflowClient(store_of(tmp_path))
    runs = client.search_runs([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert sorted(run.data.params["seed_everything"] for run in runs) == list("01234567")
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = {key: [m.step for m in client.get_metric_history(run.info.run_id, key)] for key in run.data.metrics}
        assert len(steps["test/accuracy"]) == 5
        assert len(steps["fan_in/ccv/fc2"]) == 6  # the start, too
        assert all(len(set(own)) == len(own) for own in steps.values())
        assert {artifact.path for artifact in client.list_artifacts(run.info.run_id)} >= {"config.yaml", "checkpoints"}
    assert {frozenset(run.data.metrics) for run in runs} == {frozenset(runs[0].data.metrics)}
    assert not list(tmp_path.glob("mlruns/outbox/*"))


def test_two_sweeps_and_a_fit_into_one_store(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\nbase: [{CONF / 'quickstart.yaml'}]\nspace: {{model.lr: [0.001, 0.002]}}\nsampler: grid\n"
            "objective: test/accuracy\nsettings: {trainer.max_epochs: 3}\n"
        )
    processes = [start(tmp_path, "sweep", "--config", f"{name}.yaml", "--workers", "2") for name in ("a", "b")]
    processes.append(start(tmp_path, *FIT, "--trainer.max_epochs=3"))
    for process in processes:
        finished(process)
    client = mlflow.MlflowClient(store_of(tmp_path))
    runs = client.search_runs([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 2 * 3 + 1


def test_two_reports_at_once(tmp_path):
    arguments = ["report", "--record", str(ROOT / "results" / "runs.jsonl"), "--out", str(tmp_path / "report")]
    alone = tmp_path / "alone"
    finished(start(tmp_path, *arguments[:-1], str(alone)))
    for process in [start(tmp_path, *arguments) for _ in range(3)]:
        finished(process)
    for path in alone.rglob("*"):
        if path.is_file():
            assert (tmp_path / "report" / path.relative_to(alone)).read_bytes() == path.read_bytes()
    names = {path.name for path in (tmp_path / "report").rglob("*")}
    assert names == {path.name for path in alone.rglob("*")}  # nothing half-written is left
