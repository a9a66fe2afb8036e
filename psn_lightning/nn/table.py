"""Table of the sparse layers of a module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRow:
    """Row of the table: one sparse layer."""

    name: str
    """Qualified name in the module."""
    shape: tuple[int, ...]
    """Shape of the dense weight."""
    storage: str
    """Storage of the weight: ``masked``, ``csr`` or ``groups``."""
    connections: int
    """Number of active connections."""
    positions: int
    """Number of active and absent connections."""
    ccv: float
    """Coefficient of variation of the fan-in: standard deviation / mean."""

    @property
    def density(self) -> float:
        """Share of active connections."""
        return self.connections / self.positions


@dataclass(frozen=True)
class SparsityTable:
    """Sparse layers of a module; ``str()`` formats them as a table with totals in the last row."""

    rows: tuple[LayerRow, ...]
    """Rows in the order of the module."""

    @property
    def sparsity(self) -> float:
        """Share of absent connections over all rows; 0 for an empty table."""
        return 1 - self._compute_density(
            sum(row.connections for row in self.rows), sum(row.positions for row in self.rows)
        )

    @staticmethod
    def _compute_density(connections: int, positions: int) -> float:
        return connections / positions if positions else 1.0

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> LayerRow:
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        head = ("layer", "shape", "storage", "density", "connections", "CCV")
        lines = [
            (r.name, " × ".join(map(str, r.shape)), r.storage, f"{r.density:.2%}", f"{r.connections:,}", f"{r.ccv:.3f}")
            for r in self.rows
        ]
        connections, positions = sum(r.connections for r in self.rows), sum(r.positions for r in self.rows)
        total = (
            f"{len(self.rows)} layers",
            f"{positions:,}",
            "",
            f"{self._compute_density(connections, positions):.2%}",
            f"{connections:,}",
            "",
        )
        cells = [head, *lines, total]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        text = [_format_line(row, widths) for row in cells]
        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def _format_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Format a line: the first three cells aligned left, the others right."""
    padded = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()
