"""Claims of the paper about topologies, which are computed and need no runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from psn_lightning.paper.report.verdicts import Claim, Verdict, number
from psn_lightning.topology import Bell, Exponential, FanIn, LayerBudget, Linear, Quadratic, spread
from psn_lightning.topology.fan_in import sparsity_ceiling
from psn_lightning.topology.scaling import coefficient_of_variation

_LAYER = LayerBudget(n_in=784, n_out=1024, sparsity=0.9)
_CCV: dict[str, tuple[FanIn, float]] = {
    "exponential": (Exponential(), 0.82),
    "bell": (Bell(), 0.66),
    "quadratic": (Quadratic(), 0.25),
}
_CEILINGS = {784: {1: 99.87, 5: 99.36, 10: 98.72, 20: 97.45}, 54: {1: 98.15, 5: 90.74, 10: 81.48, 20: 62.96}}
_WHERE = "784 → 1024 at 90%"


def topology_claims() -> Iterator[Claim]:
    """Judge the claims about fan-in, sparsity ceilings and the dead inputs of sequential spreading."""
    rng = np.random.default_rng(42)
    for name, (family, printed) in _CCV.items():
        ccv = coefficient_of_variation(family.fan_in(_LAYER, rng))
        verdict = Verdict.REPRODUCED if abs(ccv - printed) < 0.0101 else Verdict.NOT_REPRODUCED
        yield Claim(f"The {name} profile has CCV {printed}, within 0.01", _WHERE, verdict, f"{number(ccv, 3)}, exact")
    fan_in = Exponential().fan_in(_LAYER, rng)
    same = (fan_in.max(), fan_in.min()) == (247, 12)
    title = "The exponential profile's fan-in is 247 … 12"
    yield Claim(title, _WHERE, _judge(same), f"{fan_in.max()} … {fan_in.min()}, exact")
    linear = Linear().fan_in(_LAYER, rng)
    half = len(linear) // 2
    ratio = float(linear[:half].mean() / linear[half:].mean())
    title = "The linear profile's hubs have 3.0 times the fan-in of its specialists"
    yield Claim(title, _WHERE, _judge(round(ratio, 1) == 3.0), f"{number(ratio)}, exact")
    dead = int((spread(fan_in, 784, "sequential", rng).fan_out == 0).sum())
    yield Claim("Sequential spreading leaves 537 of 784 inputs unread", _WHERE, _judge(dead == 537), f"{dead}, exact")
    ceilings = {n_in: {k: 100 * sparsity_ceiling(n_in, k) for k in row} for n_in, row in _CEILINGS.items()}
    same = all(round(ceilings[n][k], 2) == printed for n, row in _CEILINGS.items() for k, printed in row.items())
    listed = ", ".join(number(value) for row in ceilings.values() for value in row.values())
    yield Claim("Eq. 7's ceilings for k_min 1, 5, 10, 20", "784 and 54 inputs", _judge(same), f"{listed}%, exact")


def _judge(same: bool) -> Verdict:
    """Verdict on a claim that is exactly true or false."""
    return Verdict.REPRODUCED if same else Verdict.NOT_REPRODUCED
