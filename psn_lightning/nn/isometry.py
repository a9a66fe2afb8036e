"""Approximate isometry: weights of given connections, as near to an orthogonal matrix as they can be.

Nowak et al. (2024, arXiv 2406.01755) minimise ‖W Wᵀ − σ² I‖ over the weights that exist by 1,000 steps of gradient
descent. Here it is nonlinear conjugate gradients with an exact line search, which reach less in 50.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psn_lightning.topology import Connectivity

FloatArray = NDArray[np.float64]

GAIN = 2**0.5
"""σ: every singular value of an orthogonal matrix that keeps the variance under ReLU, as He initialisation does."""

_STEPS = 50
_SMALLEST_RESIDUAL = 1e-13


def isometric_values(connectivity: Connectivity, rng: np.random.Generator) -> FloatArray:
    """Draw weights at random and bring them as near to an isometry as their connections allow.

    ‖W Wᵀ − σ² I‖, Frobenius norm, falls in every step; with more neurons than inputs it is Wᵀ W. A step takes three
    dense products of O(n_in · n_out · min(n_in, n_out)) operations, so the time is bounded by the shape, in float64.

    Args:
        connectivity: Connections of the layer.
        rng: Random generator.

    Returns:
        Weights in CSR order, shape ``(n_connections,)``; equal for equal generators.
    """
    mask = connectivity.mask()
    if not connectivity.n_connections:
        return np.empty(0)
    is_tall = connectivity.n_out > connectivity.n_in
    support = np.ascontiguousarray(mask.T if is_tall else mask)
    weight = np.zeros(support.shape)
    weight[support] = rng.standard_normal(connectivity.n_connections) / np.sqrt(support.sum(axis=1).mean())
    weight = _minimise(weight, support)
    return GAIN * (weight.T if is_tall else weight)[mask]


def _minimise(weight: FloatArray, support: NDArray[np.bool_]) -> FloatArray:
    """Minimise ‖W Wᵀ − I‖² over the weights within the support by conjugate gradients (Polak & Ribière)."""
    residual = weight @ weight.T - np.eye(len(weight))
    direction, before = np.zeros_like(weight), np.zeros_like(weight)
    for _ in range(_STEPS):
        descent = np.where(support, -(residual @ weight), 0.0)
        size = float((before**2).sum())
        memory = max(0.0, float((descent * (descent - before)).sum()) / size) if size else 0.0
        direction = descent + memory * direction
        if (direction * descent).sum() <= 0:
            direction = descent
        linear, square = weight @ direction.T, direction @ direction.T
        linear += linear.T
        step = _best_step(residual, linear, square)
        if step == 0 or np.abs(residual).max() < _SMALLEST_RESIDUAL:
            break
        weight = weight + step * direction
        residual += step * linear + step**2 * square
        before = descent
    return weight


def _best_step(residual: FloatArray, linear: FloatArray, square: FloatArray) -> float:
    """Step t that minimises ‖R + t L + t² S‖², a polynomial of degree 4; 0 where no step is better."""
    r, s = residual.ravel(), square.ravel()
    el = linear.ravel()
    value = np.array([s @ s, 2 * (el @ s), el @ el + 2 * (r @ s), 2 * (r @ el), r @ r])
    roots = np.roots(np.polyder(value))
    steps = np.append(roots[np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))].real, 0.0)
    return float(min(steps, key=lambda t: (np.polyval(value, t), abs(t))))
