"""``psn-train bench``: measure this machine, and write tables, JSON and a figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from psn_lightning.bench.figure import draw_figures
from psn_lightning.bench.fits import measure_fits
from psn_lightning.bench.groups import measure_groups
from psn_lightning.bench.layers import measure_layers
from psn_lightning.bench.machine import describe_machine
from psn_lightning.bench.roofline import measure_roofline
from psn_lightning.bench.scale import measure_scale
from psn_lightning.bench.steps import measure_parts, measure_steps, measure_updates
from psn_lightning.bench.tables import write_page
from psn_lightning.bench.timing import Row
from psn_lightning.commands.messages import CommandParser

Part = Callable[[], Iterable[Row]]

_QUICK: list[tuple[str, Part]] = [
    ("roofline", lambda: measure_roofline(1.0)),
    ("layers", lambda: measure_layers((1024, 4096), (128,), (0.9, 0.95, 0.98), 0.5)),
    ("steps", lambda: measure_steps((0.9, 0.98), 1.0)),
    ("parts of a step", lambda: measure_parts((0.9, 0.98), 500)),
    ("updates", lambda: measure_updates((0.9,), 1.0)),
    ("scale", lambda: measure_scale((1024, 4096, 16384))),
]
_FULL: list[tuple[str, Part]] = [
    ("roofline", lambda: measure_roofline(4.0)),
    (
        "layers",
        lambda: measure_layers((512, 1024, 2048, 4096, 8192), (32, 128, 512), (0.9, 0.95, 0.98, 0.99, 0.999), 0.6),
    ),
    ("groups", lambda: measure_groups((1024, 4096), (128, 512), (0.9, 0.95, 0.98), 0.5)),
    ("wide layers", lambda: measure_layers((16384,), (128, 512), (0.95, 0.98, 0.99), 0.6)),
    ("steps", lambda: measure_steps((0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), 2.0)),
    ("parts of a step", lambda: measure_parts((0.9, 0.98), 2000)),
    ("updates", lambda: measure_updates((0.9, 0.95, 0.98), 4.0)),
    ("scale", lambda: measure_scale((64, 256, 1024, 4096, 16384, 65536, 262144, 1048576))),
    ("Fashion-MNIST", lambda: measure_fits("FashionMNIST")),
    ("Forest Cover", lambda: measure_fits("ForestCover")),
]


def run(arguments: Sequence[str]) -> None:
    """Measure, print the tables, and write ``bench.json``, ``bench.md`` and figures.

    Args:
        arguments: Command line after ``psn-train bench``.
    """
    parser = CommandParser(prog="psn-train bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer shapes, no data sets")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder of the files; default: bench")
    options = parser.parse_args(arguments)
    console = Console()
    console.print("Nothing else should run on this machine while it is measured.", style="yellow")
    rows: list[Row] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for _, measure in track(_QUICK if options.quick else _FULL, "Measuring", console=console):
        for row in measure():
            rows.append(row)
        # Written after each part: what was measured is not lost with what comes later.
        measured = {"machine": describe_machine(), "rows": rows}
        (options.out / "bench.json").write_text(json.dumps(measured, indent=1) + "\n")
    machine = describe_machine()
    page = write_page(machine, rows)
    (options.out / "bench.md").write_text(page)
    figures = draw_figures(options.out, machine, rows)
    console.print(Markdown(page))
    names = ["bench.json", "bench.md", *(path.name for path in figures)]
    console.print(f"Written to {options.out}: {', '.join(names)}")
