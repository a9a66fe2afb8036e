"""Files of a lottery: tickets, results and logs of its levels, and what it began with."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from psn_lightning.errors import SettingError
from psn_lightning.files import atomically
from psn_lightning.sweeps.lottery.settings import Control

FOLDER = Path("mlruns") / "lotteries"
"""Folders of lotteries, by name."""


@dataclass(frozen=True)
class Level:
    """A fit of a lottery.

    Args:
        number: Level of pruning; 0 is the fit before any pruning.
        control: Control that is fitted instead of the ticket itself.
    """

    number: int
    control: Control | None = None

    @property
    def name(self) -> str:
        """Name of its files and of its MLflow run."""
        return f"level-{self.number:02d}" + (f"-{self.control}" if self.control else "")

    @property
    def ticket(self) -> Level:
        """Level of the ticket that this one is, or is the control of."""
        return Level(self.number)


@dataclass(frozen=True)
class Result:
    """Result of a level.

    Args:
        run: MLflow run.
        checkpoint: Last checkpoint.
        connections: Number of connections of all sparse layers.
        value: Metric at the end of the fit.
        metric: Name of the metric.
    """

    run: str
    checkpoint: str
    connections: int
    value: float
    metric: str


class LotteryFiles:
    """Files of a lottery; each appears whole.

    Args:
        name: Name of the lottery.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = FOLDER / name
        self.rewind = self.folder / "rewind.ckpt"

    def ticket(self, level: Level) -> Path:
        """Checkpoint that a level starts from."""
        return self.folder / f"{level.name}.ckpt"

    def log(self, level: Level) -> Path:
        """Log of a level's processes."""
        return self.folder / f"{level.name}.log"

    def read_result(self, level: Level, metric: str) -> Result | None:
        """Read the result of a level; None if it is not finished, or was read from another metric."""
        path = self._result(level)
        if not path.exists():
            return None
        result = Result(**json.loads(path.read_text()))
        return result if result.metric == metric else None

    def write_result(self, level: Level, result: Result) -> None:
        """Write the result of a level."""
        with atomically(self._result(level)) as scratch:
            scratch.write_text(json.dumps(asdict(result)))

    def _result(self, level: Level) -> Path:
        return self.folder / f"{level.name}.json"

    def read_run(self, digest: str) -> str | None:
        """Read the MLflow run of the lottery; None if it has not begun.

        Args:
            digest: Digest of the settings.

        Raises:
            SettingError: If the lottery began with other settings.
        """
        path = self.folder / "lottery.json"
        if not path.exists():
            return None
        begun = json.loads(path.read_text())
        if begun["digest"] != digest:
            raise SettingError(
                f"name {self.name!r}: the lottery of that name has another configuration or other settings; undo the "
                "changes, or give another name"
            )
        run: str = begun["run"]
        return run

    def write_run(self, digest: str, run: str) -> None:
        """Write digest and MLflow run of the lottery."""
        with atomically(self.folder / "lottery.json") as scratch:
            scratch.write_text(json.dumps({"digest": digest, "run": run}))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands away from the lottery.

        Raises:
            SettingError: If another command runs it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".command").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SettingError(f"lottery {self.name!r} is under way in another process: wait for its end") from None
            yield
