"""MLflow run of a lottery, in which the runs of its levels are nested."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psn_lightning.figure_style import save_figure
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles, Result
from psn_lightning.sweeps.lottery.settings import Lottery
from psn_lightning.sweeps.lottery.table import draw_lottery, format_csv, make_rows
from psn_lightning.sweeps.parent_run import ParentRun
from psn_lightning.tracking.store import STAGE_TAG


class LotteryRun(ParentRun):
    """Run of a lottery.

    Args:
        lottery: Settings of the lottery.
        config: Complete configuration of the fits.

    Raises:
        SettingError: If the lottery of that name began with other settings.
    """

    def __init__(self, lottery: Lottery, config: dict[str, Any]) -> None:
        super().__init__(config, lottery.name)
        files, digest = LotteryFiles(lottery.name), lottery.digest(config)
        run = files.read_run(digest)
        if run is None:
            tags = {STAGE_TAG: "lottery", "lottery": lottery.name, "role": "lottery"}
            run = self._create(tags, lottery.dump(), "lottery.yaml")
            files.write_run(digest, run)
        self.id = self._run = run

    def refresh(self, results: Mapping[Level, Result]) -> None:
        """Update metrics, table and figure.

        Args:
            results: Results so far.

        Raises:
            OSError: If the store does not answer.
        """
        self._tracking.store.check()
        rows = make_rows(results)
        for row in rows:
            metric, *controls = row.values
            names = {metric: f"ticket/{metric}", **{control: f"{control}/{metric}" for control in controls}}
            self._log_once("ticket/share_left", row.share_left, row.level)
            for key, value in row.values.items():
                if value is not None:
                    self._log_once(names[key], value, row.level)
        with tempfile.TemporaryDirectory() as folder:
            save_figure(draw_lottery(rows), Path(folder) / "lottery.png", bbox_inches="tight")
            (Path(folder) / "lottery.csv").write_text(format_csv(rows))
            self._client.log_artifacts(self._run, folder)

    def _log_once(self, name: str, value: float, level: int) -> None:
        """Log a metric of a level, unless an earlier command has done so."""
        history = self._client.get_metric_history(self._run, name)
        if all(metric.step != level for metric in history):
            self._client.log_metric(self._run, name, value, step=level)
