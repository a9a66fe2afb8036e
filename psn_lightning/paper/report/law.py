"""Laws of the equilibrium CCV (std / mean of the fan-in), fitted to the record and tested on networks left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from psn_lightning.paper.report.settled_layers import Layer
from psn_lightning.paper.report.tables import Table
from psn_lightning.paper.report.verdicts import number
from psn_lightning.topology.equilibrium import two_level_bound


@dataclass(frozen=True)
class Fit:
    """Law with fitted coefficients and its error."""

    law: str
    """Formula of the law."""
    coefficients: Sequence[float]
    """Factor κ, followed by the exponents."""
    error: float
    """Typical factor between the law and a layer whose network was left out of the fit (rms of the logarithm)."""
    worst: float
    """Largest factor between the law and a layer whose network was left out of the fit."""

    def __call__(self, layer: Layer) -> float:
        """Return the CCV of a layer by the law.

        Args:
            layer: Layer, whose own CCV is not used.
        """
        factor, *exponents = self.coefficients
        offset, terms = _LAWS[self.law]
        powers = sum(exponent * term(layer) for exponent, term in zip(exponents, terms, strict=True))
        return factor * math.exp(powers + (offset(layer) if offset else 0.0))


def fits(measured: Sequence[Layer]) -> list[Fit]:
    """Fit every law by least squares in the logarithms; the error is that of predictions for networks left out.

    Args:
        measured: Layers of canonical RigL.

    Returns:
        Fitted laws, the simplest first; empty for fewer than four networks or eight layers.
    """
    if len(measured) < 8 or len({layer.network for layer in measured}) < 4:
        return []
    return [_fit(measured, name, *terms) for name, terms in _LAWS.items()]


_Term = Callable[[Layer], float]


def _log_bound(layer: Layer) -> float:
    """Logarithm of the two-level bound."""
    return math.log(two_level_bound(layer.sparsity))


def _log_scale(layer: Layer) -> float:
    """Logarithm of the scale of the first weights, 0 for that of Eq. 9."""
    return math.log(layer.weight_scale)


_SHAPE: list[_Term] = [lambda layer: math.log(layer.n_in), lambda layer: math.log(layer.n_out)]
_SCHEDULE: list[_Term] = [
    lambda layer: math.log(layer.choices.drop_fraction / 0.3),
    lambda layer: math.log(layer.choices.period / 100),
]  # 0 for the default

_LAWS: dict[str, tuple[_Term | None, list[_Term]]] = {
    "κ": (None, []),
    "κ √(s/(1−s))": (_log_bound, []),
    "κ √(s/(1−s))^p": (None, [_log_bound]),
    "κ √(s/(1−s))^p n_in^q n_out^r": (None, [_log_bound, *_SHAPE]),
    "κ √(s/(1−s))^p σ^a": (None, [_log_bound, _log_scale]),
    "κ √(s/(1−s))^p σ^a (α/0.3)^b (ΔT/100)^c": (None, [_log_bound, _log_scale, *_SCHEDULE]),
    "κ √(s/(1−s))^p σ^a (α/0.3)^b (ΔT/100)^c n_in^q n_out^r": (None, [_log_bound, _log_scale, *_SCHEDULE, *_SHAPE]),
}
"""Offset of the logarithm of the CCV, and terms that are fitted to the remainder, by formula."""

THE_LAW = "κ √(s/(1−s))^p σ^a"
"""Formula of :func:`psn_lightning.topology.equilibrium.law`."""


def _fit(measured: Sequence[Layer], name: str, offset: _Term | None, terms: Sequence[_Term]) -> Fit:
    """Fit a law by least squares, and predict the layers of each network from the other networks."""
    y = np.array([math.log(layer.ccv) - (offset(layer) if offset else 0.0) for layer in measured])
    x = np.array([[1.0, *(term(layer) for term in terms)] for layer in measured])

    def solve(keep: np.ndarray) -> np.ndarray:
        # of the smallest norm: a choice that does not vary in these networks has the exponent 0
        return np.asarray(np.linalg.lstsq(x[keep], y[keep], rcond=None)[0])

    networks = np.array([layer.network for layer in measured])
    misses = np.concatenate([y[own] - x[own] @ solve(~own) for own in (networks == name for name in set(networks))])
    factor, *exponents = solve(np.full(len(y), True)).tolist()
    return Fit(
        law=name,
        coefficients=[math.exp(factor), *exponents],
        error=math.exp(float(np.sqrt((misses**2).mean()))),
        worst=math.exp(float(np.abs(misses).max())),
    )


def law_table(measured: Sequence[Layer]) -> Table:
    """Make the table of the laws.

    Args:
        measured: Layers of canonical RigL.
    """
    rows = [
        [fit.law, ", ".join(number(c, 3) for c in fit.coefficients), number(fit.error), number(fit.worst)]
        for fit in fits(measured)
    ]
    note = (
        f"Fitted to {len(measured)} layers, {sum(layer.n for layer in measured)} trajectories of distinct runs: "
        "canonical RigL from unstructured masks, CCV after the last epoch. σ is the standard deviation of the first "
        "weights relative to that of Eq. 9, α the drop fraction, ΔT the number of steps between updates. Errors are "
        "factors, for networks left out."
    )
    return Table("A law of our equilibria", note, ["CCV =", "κ, exponents", "typical error", "largest"], rows)


def layer_table(measured: Sequence[Layer]) -> Table:
    """Make the table of the layers to which the laws are fitted.

    Args:
        measured: Layers of canonical RigL.
    """
    law = next((fit for fit in fits(measured) if fit.law == THE_LAW), None)
    rows = [
        [
            layer.dataset,
            layer.choices.start,
            layer.name,
            f"{layer.n_in} → {layer.n_out}",
            layer.choices.weights,
            f"{layer.choices.drop_fraction:g}, {layer.choices.period}",
            f"{layer.sparsity:.1%}",
            number(layer.ccv),
            number(law(layer) if law else math.nan),
            str(layer.n),
        ]
        for layer in sorted(measured, key=_order)
    ]
    columns = ["data", "start", "layer", "shape", "first weights", "α, ΔT", "sparsity", "CCV", THE_LAW, "n"]
    return Table("Where canonical RigL ended, by layer", "", columns, rows)


def _order(layer: Layer) -> tuple[object, ...]:
    """Key by which the table of layers is sorted."""
    return (layer.data, *vars(layer.choices).values(), layer.sparsity, layer.name)
