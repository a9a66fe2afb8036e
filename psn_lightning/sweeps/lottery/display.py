"""Progress of a lottery in the terminal, and its table at the end."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from psn_lightning.sweeps.bars import Bars
from psn_lightning.sweeps.lottery.files import Level, Result
from psn_lightning.sweeps.lottery.settings import Lottery
from psn_lightning.sweeps.lottery.table import COLUMNS, make_rows


class Display(Bars):
    """Progress of a lottery; a context manager.

    Args:
        lottery: Lottery to show.
        n_epochs: Number of epochs of a fit; None or -1 if it is not known.
        n_levels: Number of fits.
    """

    def __init__(self, lottery: Lottery, n_epochs: int | None, n_levels: int) -> None:
        super().__init__()
        self._lottery = lottery
        self._n_epochs = n_epochs if n_epochs is not None and n_epochs > 0 else None
        self._all = self._progress.add_task(lottery.name, total=n_levels)
        self._epochs = self._progress.add_task("", total=self._n_epochs, visible=False)
        self._title = ""

    def show_start(self, level: Level) -> None:
        """Show that a level starts."""
        self._title = f"{level.name}, {self._lottery.describe_share(level.number)} left"
        self._progress.reset(self._epochs, total=self._n_epochs, visible=True, description=self._title)

    def show_epoch(self, epochs: int, value: float | None) -> None:
        """Show the number of epochs of the present level, and the metric after the last of them."""
        title = self._title if value is None else f"{self._title}, {value:.4f}"
        self._progress.update(self._epochs, completed=epochs, description=title)

    def show_result(self, level: Level, results: Mapping[Level, Result], is_new: bool) -> None:
        """Show a level that is finished."""
        self._progress.update(self._all, advance=1)
        self._progress.update(self._epochs, visible=False)
        if is_new:
            result, dense = results[level], results[Level(0)]
            left = f"{result.connections / dense.connections:.2%}"
            self.print_line(f"{level.name}: {left} left, {result.metric} {result.value:.4f}")


def print_table(results: Mapping[Level, Result]) -> None:
    """Print the table of a lottery."""
    rows = make_rows(results)
    table = Table(*COLUMNS, *rows[0].values)
    for row in rows:
        table.add_row(*row.cells())
    Console().print(table)
