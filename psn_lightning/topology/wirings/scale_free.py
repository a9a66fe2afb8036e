"""Bipartite scale-free wiring (Barabási & Albert, 1999; Zhang et al., 2026, arXiv 2501.19107)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.fan_in import FloatArray, LayerBudget
from psn_lightning.topology.scaling import settle
from psn_lightning.topology.wiring import Wiring


@dataclass(frozen=True)
class ScaleFree(Wiring):
    """Bipartite scale-free wiring (BSF): hubs among the neurons and among the inputs.

    A Barabási-Albert graph grows over inputs and neurons in random order. Its degrees, scaled so that each side has
    the budget's number of connections, are the fan-in and the targets of the fan-out; each neuron draws its inputs in
    proportion to what their targets still lack. The paper re-attaches the links within a side instead, which keeps the
    degrees only where both sides are equally long.
    """

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer; the number of connections is exact."""
        nodes = budget.n_in + budget.n_out
        degree = grow_degrees(nodes, max(1, round(budget.n_connections / nodes)), rng)[rng.permutation(nodes)]
        fan_in = settle(_scale(degree[: budget.n_out], budget), budget)
        fan_out = _scale_fan_out(degree[budget.n_out :], budget)
        return _match(fan_in, fan_out, rng)


def grow_degrees(n_nodes: int, n_links: int, rng: np.random.Generator) -> IntArray:
    """Degrees of a Barabási-Albert graph.

    It starts from a clique of ``n_links + 1`` nodes. Every further node links to ``n_links`` of the nodes before it,
    without replacement and in proportion to their degrees.

    Args:
        n_nodes: Number of nodes.
        n_links: Links of a new node, at least 1.
        rng: Random generator.

    Returns:
        Degree of each node in order of age, shape ``(n_nodes,)``.
    """
    first = min(n_links + 1, n_nodes)
    degree = np.zeros(n_nodes, dtype=np.int64)
    degree[:first] = first - 1
    for node in range(first, n_nodes):
        score = np.log(degree[:node]) + rng.gumbel(size=node)
        degree[np.argpartition(-score, n_links - 1)[:n_links]] += 1
        degree[node] = n_links
    return degree


def _scale(degree: IntArray, budget: LayerBudget) -> IntArray:
    """Scale degrees to the budget's mean fan-in, rounded and clamped (Eq. 6)."""
    return budget.clamp(degree / max(float(degree.mean()), 1.0) * budget.mean_fan_in)


def _scale_fan_out(degree: IntArray, budget: LayerBudget) -> IntArray:
    """Scale degrees to the same number of connections, seen from the inputs; every input has one at least."""
    density = budget.n_reachable / (budget.n_in * budget.n_out)
    mirrored = LayerBudget(budget.n_out, budget.n_in, max(0.0, 1 - density), may_exceed_ceiling=True)
    return settle(_scale(degree, mirrored), mirrored)


def _match(fan_in: IntArray, fan_out: IntArray, rng: np.random.Generator) -> Connectivity:
    """Draw the inputs of each neuron in proportion to the connections that the inputs' targets still lack.

    Hubs draw first, while every input lacks some: the fan-in is exact, the fan-out nearly.
    """
    lacking: FloatArray = fan_out.astype(np.float64)
    inputs: list[IntArray] = [np.empty(0, dtype=np.int64)] * fan_in.size
    for neuron in np.argsort(-fan_in, kind="stable").tolist():
        score = np.log(np.maximum(lacking, 1e-9)) + rng.gumbel(size=lacking.size)
        chosen = np.argpartition(-score, fan_in[neuron] - 1)[: fan_in[neuron]]
        lacking[chosen] -= 1
        inputs[neuron] = np.sort(chosen)
    return Connectivity.from_fan_in(fan_out.size, fan_in, np.concatenate(inputs))
