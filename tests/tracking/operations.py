"""Operations of every kind on a run, and what they leave in the store."""

from pathlib import Path


def put_all(put, put_file, folder):
    """Log something of every kind."""
    (folder / "a.txt").write_text("a")
    put("params", params={f"p{i}": str(i) for i in range(150)})
    put("tags", tags={"t": "1"})
    put("metrics", metrics=[["a", step / 7, 1000 + step, step] for step in range(1100)])
    put("metrics", metrics=[["b", float("nan"), 1, 0], ["b", float("inf"), 2, 1]])
    put_file(folder / "a.txt", Path("deep"))
    put("resume", step=3)
    put("end", status="KILLED", killed="why", time=5000)


def assert_all(client, run_id):
    """It arrived, once."""
    run = client.get_run(run_id)
    assert run.data.params == {f"p{i}": str(i) for i in range(150)}
    assert {"t": "1", "killed": "why", "resumed_at": "3"}.items() <= run.data.tags.items()
    history = client.get_metric_history(run_id, "a")
    assert [(m.step, m.value) for m in history] == [(step, step / 7) for step in range(1100)]
    assert [m.step for m in client.get_metric_history(run_id, "b")] == [0, 1]
    assert [a.path for a in client.list_artifacts(run_id, "deep")] == ["deep/a.txt"]
    assert (run.info.status, run.info.end_time) == ("KILLED", 5000)
