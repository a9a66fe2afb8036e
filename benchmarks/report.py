"""Makes tables (``docs/benchmarks.md``) and a figure (``docs/speed.png``) from ``benchmarks/results.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parent.parent
Rows = list[dict[str, Any]]
SHAPE = {"width": 1024, "batch": 128}
_NOTE = """Written by `make bench`. Medians in milliseconds or seconds; candidates of one table took turns within
one run. A ratio says how many times as long as csr something takes."""


def main() -> None:
    """Read the results, write the tables and draw the figure."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    rows = [bench["extra_info"] | {"median": bench["stats"]["median"]} for bench in results["benchmarks"]]
    info = results["machine_info"]
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    machine = f"{info['cpu']['brand_raw']}, {info['threads']} threads, {info['vector_extensions']}"
    origin = f"{results['datetime'][:10]}; {machine}; Python {info['python_version']}, {versions}."
    head = f"# Benchmarks\n\n{_NOTE}\n\n{origin}\n"
    parts = [head, epochs(rows), layers(rows), storages(rows), updates(rows), topologies(rows), growth(rows)]
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(parts))
    draw(rows, machine)


def table(title: str, columns: list[str], lines: list[list[str]]) -> str:
    """Format a table as Markdown, with its title.

    Args:
        title: Title of the table.
        columns: Titles of the columns.
        lines: Cells, ``len(columns)`` in each row.
    """
    rule = ["---"] * len(columns)
    return "\n".join([f"## {title}\n", *("| " + " | ".join(cells) + " |" for cells in (columns, rule, *lines)), ""])


def select(rows: Rows, **wanted: object) -> Rows:
    """Select the rows whose fields have the given values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def epochs(rows: Rows) -> str:
    """Make the table of the seconds per epoch of a fit."""
    lines = []
    for row in select(rows, part="epoch"):
        sparsity = row["kind"].split()[1]
        own = select(rows, part="epoch", data=row["data"], kind=f"csr {sparsity}")
        others = own or select(rows, part="epoch", data=row["data"])
        ratios = [f"{row['median'] / o['median']:.2f}" for o in others if o["kind"].startswith("csr")]
        lines.append([row["data"], row["kind"], f"{row['median']:.2f}", " / ".join(ratios)])
    title = "Seconds per epoch, RigL and evaluation included (csr and masked: psn-train fit with everything on)"
    return table(title, ["data", "kind, sparsity", "seconds", "times csr (at each sparsity)"], lines)


def layers(rows: Rows) -> str:
    """Make the table of the forward and backward pass of one layer, by width, batch and sparsity."""
    own = select(rows, part="layer")
    lines = []
    for width, batch, sparsity in sorted({(r["width"], r["batch"], r["sparsity"]) for r in select(own, kind="csr")}):
        at = {r["kind"]: r["median"] * 1e3 for r in select(own, width=width, batch=batch, sparsity=sparsity)}
        at |= {r["kind"]: r["median"] * 1e3 for r in select(own, width=width, batch=batch, sparsity=None)}
        others = [f"{at[k]:.2f} ({at[k] / at['csr']:.1f})" for k in ("dense torch", "masked", "torch csr", "sparselab")]
        lines.append([str(width), str(batch), f"{sparsity:.1%}", f"{at['csr']:.3f}", *others])
    title = "One layer, forward and backward: milliseconds (times csr)"
    return table(title, ["width", "batch", "sparsity", "csr", "dense torch", "masked", "torch csr", "sparselab"], lines)


def storages(rows: Rows) -> str:
    """Make the table of the speed of csr relative to masked, by network and sparsity."""
    own, lines = select(rows, part="storage"), []
    for name in dict.fromkeys(row["name"] for row in own):
        (masked,) = select(own, name=name, kind="masked")
        speeds = [f"{masked['median'] / row['median']:.2f}" for row in select(own, name=name, kind="csr")]
        lines.append([name, *speeds])
    title = "A training step: how many times as fast as masked csr is, by sparsity"
    return table(title, ["network", "40%", "50%", "60%", "70%", "80%"], lines)


def updates(rows: Rows) -> str:
    """Make the table of the time of a RigL update, by storage."""
    at = {row["kind"]: row["median"] * 1e3 for row in select(rows, part="update")}
    lines = []
    for storage in ("csr", "masked"):
        step, both = at[f"{storage} step"], at[f"{storage} update and step"]
        lines.append([storage, f"{step:.2f}", f"{both - step:.2f}", f"{(both - step) / step:.1f}"])
    return table("A RigL update at 90%, 784–1024–1024–10", ["storage", "step, ms", "update, ms", "in steps"], lines)


def topologies(rows: Rows) -> str:
    """Make the table of the time to build a topology."""
    lines = [[row["kind"], f"{row['median'] * 1e3:.1f}"] for row in select(rows, part="topology")]
    return table("Building the topology 784–1024–1024–10 at 90%", ["family, spreading", "ms"], lines)


def growth(rows: Rows) -> str:
    """Make the table of time and memory by number of connections."""
    lines = []
    for row in select(rows, part="growth"):
        n, ms = row["connections"], row["median"] * 1e3
        lines.append([str(row["width"]), f"{n:,}", f"{ms:.2f}", f"{ms / n * 1e6:.1f}", f"{row['bytes'] / 2**20:.0f}"])
    columns = ["width", "connections", "ms per step", "ns per connection", "peak memory, MiB"]
    return table("A training step of 784–width–width–10, the same fan-in, csr", columns, lines)


def draw(rows: Rows, machine: str) -> None:
    """Draw the figure: one layer, an epoch, and growth with the number of connections."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    _draw_layers(left, rows)
    _draw_epochs(middle, rows)
    _draw_growth(right, rows)
    figure.suptitle(machine, fontsize=8, color="0.4")
    figure.savefig(ROOT / "docs" / "speed.png", dpi=130)


def _draw_layers(axes: Axes, rows: Rows) -> None:
    """Draw the speed of one layer relative to a dense one, over the sparsity."""
    own = [row for row in select(rows, part="layer") if {k: row[k] for k in SHAPE} == SHAPE]
    dense = select(own, kind="dense torch")[0]["median"]
    for kind in ("csr", "sparselab", "torch csr"):
        points = sorted((row["sparsity"], dense / row["median"]) for row in select(own, kind=kind))
        axes.plot(range(len(points)), [speed for _, speed in points], marker="o", label=kind)
        axes.set_xticks(range(len(points)), [f"{sparsity:.1%}".replace(".0", "") for sparsity, _ in points])
    axes.axhline(1, color="0.5", linewidth=1, label="dense torch")
    axes.set(yscale="log", xlabel="sparsity", ylabel="times as fast as dense", title="one layer 1024 × 1024, batch 128")
    axes.legend(frameon=False)


def _draw_epochs(axes: Axes, rows: Rows) -> None:
    """Draw the seconds per epoch of the storages and of bare loops."""
    own = select(rows, part="epoch", data="FashionMNIST")
    names = [row["kind"] for row in own]
    colors = ["C0" if name.startswith("csr") else "0.6" for name in names]
    bars = axes.barh(names, [row["median"] for row in own], color=colors)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="seconds per epoch", title="Fashion-MNIST with RigL: psn-train fit, bare loops")


def _draw_growth(axes: Axes, rows: Rows) -> None:
    """Draw time and memory over the number of connections."""
    own = select(rows, part="growth")
    n = [row["connections"] for row in own]
    axes.loglog(n, [row["median"] * 1e3 for row in own], marker="o", label="ms per step")
    axes.loglog(n, [row["bytes"] / 2**20 for row in own], marker="s", label="peak memory, MiB")
    last = own[-1]["median"] * 1e3 / n[-1]
    axes.loglog(n, [last * x for x in n], color="0.6", linestyle="--", linewidth=1, label="proportional")
    axes.set(xlabel="connections", title="784–width–width–10, the same fan-in")
    axes.legend(frameon=False)


if __name__ == "__main__":
    sys.exit(main())
