"""Progress bars in the terminal, with lines above them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


class Bars:
    """Progress bars; a context manager.

    Args:
        columns: Columns beside description, bar, number and elapsed time.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *columns,
            console=self._console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def print_line(self, text: str) -> None:
        """Print a line that stays above the bars."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
