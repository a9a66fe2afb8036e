"""Markdown tables of measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psn_lightning.bench.roofline import BYTES_PER_CONNECTION, FLOPS_PER_BYTE
from psn_lightning.bench.steps import PARTS
from psn_lightning.bench.timing import Row
from psn_lightning.commands.markdown import markdown_table

_NOTE = """Written by `psn-train bench`. Medians. What a table compares took turns within one run: the speed of a
machine changes from minute to minute, so ratios mean more than times."""
_OTHERS = ("dense", "masked", "torch csr", "sparselab")


def write_page(machine: dict[str, Any], rows: Sequence[Row]) -> str:
    """Write the page of all measurements.

    Args:
        machine: What :func:`~psn_lightning.bench.machine.describe_machine` returns.
        rows: Measurements.
    """
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    origin = (
        f"{machine['date']}; {machine['processor']}, {machine['threads']} threads, {machine['vector extensions']}; "
        f"Python {machine['python']}, {versions}."
    )
    parts = (
        write_roofline,
        write_fits,
        write_layers,
        write_groups,
        write_steps,
        write_parts,
        write_updates,
        write_scale,
    )
    return "\n".join(
        ["# Benchmarks\n", f"{_NOTE}\n", f"{origin}\n", *(part for write in parts if (part := write(rows)))]
    )


def select(rows: Iterable[Row], **wanted: object) -> list[Row]:
    """Select the rows whose fields have the given values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def count_flops(row: Row) -> float:
    """Count the operations of forward and backward pass of a layer's active connections."""
    width, sparsity, batch = float(row["width"]), float(row["sparsity"]), float(row["batch"])
    return 6 * width**2 * (1 - sparsity) * batch


def write_roofline(rows: Sequence[Row]) -> str:
    """Write what the machine can do at most, and the fraction of it that csr reaches in the fastest layer."""
    found = {row["kind"]: row["rate"] for row in select(rows, part="roofline")}
    layers = select(rows, part="layer", kind="csr")
    if not found or not layers:
        return ""
    peak, bandwidth = found["dense product"], found["copy"]
    bound = min(peak, FLOPS_PER_BYTE * bandwidth)
    best = max(layers, key=lambda row: count_flops(row) / row["median"])
    rate = count_flops(best) / best["median"]
    return (
        f"## Roofline\n\nA dense product reaches {peak / 1e9:.0f} GFLOP/s, a copy {bandwidth / 1e9:.0f} GB/s. The csr "
        f"kernels move {BYTES_PER_CONNECTION} bytes for a connection and 64 rows, forward and backward: "
        f"{FLOPS_PER_BYTE:.0f} operations per byte, which allows {bound / 1e9:.0f} GFLOP/s. They reach at most "
        f"{rate / 1e9:.0f} ({rate / bound:.0%}): {best['width']} neurons, {best['sparsity']:.0%}, batch "
        f"{best['batch']}.\n"
    )


def write_layers(rows: Sequence[Row]) -> str:
    """Write the table of the forward and backward pass of one layer."""
    own = select(rows, part="layer")
    keys = dict.fromkeys((row["width"], row["batch"], row["sparsity"]) for row in own)
    lines = []
    for width, batch, sparsity in sorted(keys):
        at = {row["kind"]: row for row in select(own, width=width, batch=batch, sparsity=sparsity)}
        csr = at["csr"]["median"]
        others = [
            f"{at[kind]['median'] * 1e3:.2f} ({at[kind]['median'] / csr:.1f})" if kind in at else "" for kind in _OTHERS
        ]
        rate = f"{count_flops(at['csr']) / csr / 1e9:.0f}"
        lines.append([str(width), str(batch), f"{sparsity:.1%}", f"{csr * 1e3:.3f}", rate, *others])
    columns = ["width", "batch", "sparsity", "csr", "csr, GFLOP/s", *_OTHERS]
    return _section("One layer, forward and backward: milliseconds (times csr)", columns, lines)


def write_groups(rows: Sequence[Row]) -> str:
    """Write the table of modules whose neurons share their inputs."""
    own = select(rows, part="groups")
    kinds = list(dict.fromkeys(row["kind"] for row in own))
    lines = []
    for sizes, batch, sparsity in dict.fromkeys((row["sizes"], row["batch"], row["sparsity"]) for row in own):
        at = {row["kind"]: row["median"] for row in select(own, sizes=sizes, batch=batch, sparsity=sparsity)}
        times = [f"{at[kind] * 1e3:.2f} ({at['dense'] / at[kind]:.1f})" for kind in kinds]
        lines.append([sizes, str(batch), f"{sparsity:.0%}", *times])
    title = "Neurons that share their inputs in groups: milliseconds (dense takes, times this)"
    return _section(title, ["sizes", "rows", "sparsity", *kinds], lines)


def write_steps(rows: Sequence[Row]) -> str:
    """Write the table of whole training steps."""
    own = select(rows, part="step")
    baselines = {kind: row["median"] for kind in ("dense", "masked") for row in select(own, kind=kind)}
    lines = [
        [
            f"{row['sparsity']:.0%}",
            f"{row['median'] * 1e3:.2f}",
            *(f"{b / row['median']:.1f}" for b in baselines.values()),
        ]
        for row in select(own, kind="csr")
    ]
    columns = ["sparsity", "csr, ms", *(f"{kind} ({b * 1e3:.2f} ms) takes, times csr" for kind, b in baselines.items())]
    return _section("A training step of 784–1024–1024–10, batch 128, Adam", columns, lines)


def write_parts(rows: Sequence[Row]) -> str:
    """Write the table of the parts of a step."""
    own, lines = select(rows, part="parts"), []
    for sparsity in dict.fromkeys(row["sparsity"] for row in own):
        at = {row["what"]: row["median"] for row in select(own, sparsity=sparsity)}
        lines.append(
            [f"{sparsity:.0%}", *(f"{at[what] * 1e3:.3f} ({at[what] / sum(at.values()):.0%})" for what in PARTS)]
        )
    return _section("Parts of a csr step: milliseconds (share)", ["sparsity", *PARTS], lines)


def write_updates(rows: Sequence[Row]) -> str:
    """Write the table of the time of a RigL update."""
    own, lines = select(rows, part="update"), []
    for kind, sparsity in dict.fromkeys((row["kind"], row["sparsity"]) for row in own):
        at = {row["what"]: row["median"] * 1e3 for row in select(own, kind=kind, sparsity=sparsity)}
        step, update = at["step"], at["update and step"] - at["step"]
        lines.append([kind, f"{sparsity:.0%}", f"{step:.2f}", f"{update:.2f}", f"{update / step:.1f}"])
    columns = ["storage", "sparsity", "step, ms", "update, ms", "in steps"]
    return _section("A RigL update of 784–1024–1024–10", columns, lines)


def write_fits(rows: Sequence[Row]) -> str:
    """Write the table of the seconds per epoch of a fit and of bare loops."""
    lines = []
    for row in select(rows, part="fit"):
        reference = select(rows, part="fit", data=row["data"], how="fit", kind="csr")
        own = select(reference, sparsity=row["sparsity"]) or reference
        ratios = " / ".join(f"{row['median'] / other['median']:.2f}" for other in own)
        how = f"{'psn-train fit' if row['how'] == 'fit' else 'bare loop'}, {row['kind']}"
        lines.append([row["data"], how, f"{row['sparsity']:.0%}", f"{row['median']:.2f}", ratios])
    columns = ["data", "kind", "sparsity", "seconds", "times psn-train fit with csr"]
    return _section("Seconds per epoch, RigL and evaluation included", columns, lines)


def write_scale(rows: Sequence[Row]) -> str:
    """Write the table of time and memory by number of connections."""
    lines = []
    for row in select(rows, part="scale"):
        n, ms = row["connections"], row["median"] * 1e3
        lines.append([str(row["width"]), f"{n:,}", f"{ms:.2f}", f"{ms / n * 1e6:.1f}", f"{row['bytes'] / 2**20:.0f}"])
    columns = ["width", "connections", "ms per step", "ns per connection", "peak memory, MiB"]
    return _section("A training step of 784–width–width–10, the same fan-in, csr", columns, lines)


def _section(title: str, columns: list[str], lines: list[list[str]]) -> str:
    return f"## {title}\n\n{markdown_table(columns, lines)}" if lines else ""
