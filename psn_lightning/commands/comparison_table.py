"""A comparison of runs as a table of text."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from psn_lightning.checkpoints.flat import short_names
from psn_lightning.commands.comparison import Comparison

_MOST_NAMED = 3  # settings of a class differ together: dozens of them say nothing more
_WIDE = 10  # characters: longer names of metrics are broken in the heading of a table


def format_cells(comparison: Comparison) -> pd.DataFrame:
    """Format a table: settings that are not redundant, ``mean ± std`` of each metric, and n.

    Args:
        comparison: Runs grouped by configuration.
    """
    settings = comparison.settings.drop(columns=list(comparison.in_step))
    table = settings.apply(_shorten_column).rename(columns=short_names(settings.columns))
    most = comparison.n.max(axis="columns")
    for metric in comparison.mean:
        columns = (comparison.mean[metric], comparison.std[metric], comparison.n[metric], most)
        table[metric] = [_format_mean(*values) for values in zip(*columns, strict=True)]
    table["n"] = most
    return table


def print_table(comparison: Comparison) -> None:
    """Print a row for each configuration, in the width of the terminal (80 columns in a file).

    Args:
        comparison: Runs grouped by configuration.
    """
    cells = format_cells(comparison)
    names = [name for name in cells if name not in (*comparison.mean, "n")]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("configuration", overflow="fold", min_width=len("configuration"))
    for metric in (*comparison.mean, "n"):
        lines = [line if len(line) <= _WIDE else line.replace("_", "_\n") for line in metric.split("/")]
        table.add_column("/\n".join(lines), justify="right", no_wrap=True)
    for row in cells.to_dict("records"):
        configuration = ", ".join(f"{name} {row[name]}" for name in names if row[name] != "")
        table.add_row(configuration, *(_break_lines(str(row[metric])) for metric in (*comparison.mean, "n")))
    console = Console(highlight=False)
    console.print(table)
    for earlier in dict.fromkeys(comparison.in_step.values()):
        settings = [setting for setting, other in comparison.in_step.items() if other == earlier]
        shown, others = settings[:_MOST_NAMED], len(settings[_MOST_NAMED:])
        more = f" and {others} more" if others else ""
        console.print(f"{', '.join(shown)}{more} {'differ' if settings[1:] else 'differs'} as {earlier} does.")
    if comparison.left_out:
        console.print(f"Left out: {', '.join(f'{count} {reason}' for reason, count in comparison.left_out.items())}.")


def _shorten_column(column: pd.Series) -> pd.Series:
    """Shorten the values of a setting (numbers rounded, classes without module) unless two would become equal."""
    short = column.map(_shorten)
    return short if short.nunique() == column.nunique() else column


def _shorten(setting: str) -> str:
    """Round a number, and remove the module of a class of this package."""
    try:
        return f"{float(setting):.4g}"
    except ValueError:
        return setting.rsplit(".", 1)[-1] if setting.startswith("psn_lightning.") else setting


def _format_mean(mean: float, std: float, n: int, most: int) -> str:
    """Format ``mean ± std``, with n if the metric has fewer seeds than another metric of the row."""
    if n == 0:
        return ""
    fewer = f" (n={n})" if n < most else ""
    return f"{mean:.4f}{fewer}" if n == 1 else f"{mean:.4f} ± {std:.4f}{fewer}"


def _break_lines(cell: str) -> str:
    """Put the standard deviation and n of a cell below its mean."""
    return cell.replace(" ± ", "\n± ").replace(" (", "\n(")
