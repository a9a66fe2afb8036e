"""MLflow run of a lottery."""

import csv
from pathlib import Path

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.lottery.files import Level
from psn_lightning.sweeps.lottery.parent import LotteryRun


def test_metrics_by_level_are_logged_once_and_table_and_figure_are_there(lottery, tmp_path):
    with LotteryRun(lottery.lottery, lottery.config) as parent:
        assert parent.id == lottery.parent.id
        parent.refresh(dict(list(lottery.results.items())[:2]))
        parent.refresh(lottery.results)
    run = lottery.client.get_run(parent.id)
    assert run.info.status == "FINISHED"
    assert run.data.params["share"] == "0.3"
    assert run.data.tags["stage"] == "lottery"
    for name, control in (("ticket/test/accuracy", None), ("redraw/test/accuracy", "redraw")):
        history = lottery.client.get_metric_history(parent.id, name)
        expected = [(i, lottery.results[Level(i, control)].value) for i in ((0, 1, 2) if control is None else (1, 2))]
        assert [(m.step, m.value) for m in history] == expected
    artifacts = {artifact.path for artifact in lottery.client.list_artifacts(parent.id)}
    assert {"lottery.png", "lottery.csv", "lottery.yaml", "config.yaml"} <= artifacts
    text = lottery.client.download_artifacts(parent.id, "lottery.csv", str(tmp_path))
    with Path(text).open() as file:
        assert [row["connections"] for row in csv.DictReader(file)] == ["1920", "1344", "941"]


def test_other_settings_under_the_same_name_are_refused(lottery):
    changed = {**lottery.config, "seed_everything": 1}
    with pytest.raises(SettingError, match="has another configuration or other settings"):
        LotteryRun(lottery.lottery, changed)
