"""Draws docs/lottery.png from the table of that run in docs/lottery.md: ``python docs/draw_lottery.py``.

``psn-train lottery`` draws the same figure at the end of each level, and keeps it in MLflow.
"""

from __future__ import annotations

import re
from pathlib import Path

from psn_lightning.figure_style import save_figure
from psn_lightning.sweeps.lottery.table import Row, draw_lottery

HERE = Path(__file__).parent
METRIC, CONTROLS = "test/accuracy", ("redraw", "shuffle")
_LINE = re.compile(r"\| (\d+)(?:, (\w+))? \| ([\d,]+) \| ([\d.]+)% \| ([\d.]+) \| [\d.]+ \|")


def read_rows(page: str) -> list[Row]:
    """Read the rows of the table, its last epochs, with the controls beside their level.

    Args:
        page: Text of docs/lottery.md.
    """
    rows: dict[int, Row] = {}
    for level, control, connections, left, value in _LINE.findall(page):
        row = Row(int(level), int(connections.replace(",", "")), float(left) / 100, dict.fromkeys((METRIC, *CONTROLS)))
        rows.setdefault(row.level, row).values[control or METRIC] = float(value)
    return [*rows.values()]


if __name__ == "__main__":
    save_figure(draw_lottery(read_rows((HERE / "lottery.md").read_text())), HERE / "lottery.png")
