"""Exact selection of the highest scores: ties go to the lower position, NaN counts as the lowest score."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from psn_lightning.dynamics.compiled import is_worth_compiling

_SAMPLE = 2**14  # scores from which a bound is estimated
_COMPILED = {torch.float32, torch.float64}


def select_top(scores: Tensor, count: int) -> Tensor:
    """Select exactly ``count`` highest scores.

    Args:
        scores: Scores, shape ``(n,)``.
        count: Number of scores to select, at most ``n``.

    Returns:
        Positions of the selected scores, ascending, int64, shape ``(count,)``.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    if scores.device.type == "cpu" and scores.dtype in _COMPILED and is_worth_compiling(len(scores)):
        from psn_lightning.kernels.selection import select_highest

        return torch.from_numpy(select_highest(scores.detach().contiguous().numpy(), count))
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    threshold = _find_kth_highest(scores, count)
    chosen = scores > threshold
    above = _find_true(chosen)
    chosen[_find_true(scores == threshold)[: count - len(above)]] = True
    return _find_true(chosen)


def sort_ascending(positions: Tensor) -> Tensor:
    """Sort positions made of a few ascending runs, which numpy's stable sort merges in linear time."""
    if positions.device.type == "cpu":
        return torch.from_numpy(np.sort(positions.numpy(), kind="stable"))
    return positions.sort().values


def order_by_magnitude(values: Tensor) -> Tensor:
    """Order numbers by magnitude, ascending; equal ones keep their order, and NaN comes last.

    On the CPU the bits of float32 are sorted together with the places, in a small part of a stable argsort's time.

    Args:
        values: Numbers, shape ``(n,)``.

    Returns:
        Places in ``values``, int64, shape ``(n,)``.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.abs().argsort(stable=True)
    keys = values.detach().abs().contiguous().view(torch.int32).numpy().astype(np.int64)
    keys <<= 32  # magnitudes have no sign bit: their order is that of their bits
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= 2**32 - 1
    return torch.from_numpy(keys)


def _find_true(mask: Tensor) -> Tensor:
    """Return the positions where a mask is True; on the CPU by numpy, in half of torch's time."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _find_kth_highest(scores: Tensor, count: int) -> Tensor:
    """Find the ``count``-th highest of scores without NaN; on the CPU by numpy, in a third of torch's time."""
    if scores.device.type != "cpu":
        return scores.topk(count, sorted=False).values.min()
    if scores.is_floating_point() and scores.element_size() == 2:  # numpy has no bfloat16, and no fast float16
        scores = scores.float()
    values, place = scores.numpy(), len(scores) - count
    return torch.as_tensor(np.partition(values, place)[place])


class RunningTop:
    """:func:`select_top` over scores that arrive block by block, in ascending order of position.

    At most ``count`` scores are kept beside those of a block, so that dense scores of a layer never have to fit into
    memory at once.

    Args:
        count: Number of positions to select.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._scores: Tensor | None = None
        self._positions: Tensor | None = None

    def add(self, scores: Tensor, candidates: Tensor, offset: int) -> None:
        """Add the scores of a block.

        Args:
            scores: Scores, any shape.
            candidates: Mask of the scores that may be selected, boolean, same shape.
            offset: Flat position of the first score.
        """
        if self._scores is not None and self._positions is not None and len(self._scores) == self.count > 0:
            candidates = candidates & (scores > self._scores.min())  # ties go to earlier positions
        index = _find_promising(scores.flatten(), candidates.flatten(), self.count)
        values, positions = scores.flatten()[index], index + offset
        if self._scores is not None and self._positions is not None:
            values, positions = torch.cat([self._scores, values]), torch.cat([self._positions, positions])
        chosen = select_top(values, min(self.count, len(values)))
        self._scores = torch.nan_to_num(values[chosen], nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        self._positions = positions[chosen]

    def positions(self) -> Tensor:
        """Return the selected positions, ascending, int64, shape ``(count,)``.

        Raises:
            RuntimeError: If the blocks had fewer than ``count`` candidates.
        """
        if self._positions is None or len(self._positions) < self.count:
            found = 0 if self._positions is None else len(self._positions)
            raise RuntimeError(f"cannot grow {self.count} connections: only {found} positions are absent")
        return self._positions


def _find_promising(scores: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Find a small set of candidates that contains the ``count`` best: those above a bound estimated from a sample.

    Comparing a million scores with a bound takes a tenth of the time of selecting from them.
    """
    n = len(scores)
    rank = int(1.2 * count * _SAMPLE / n) + 20  # with a margin; if it does not suffice, all candidates are returned
    if n < 2 * _SAMPLE or rank > _SAMPLE // 2 or not scores.is_floating_point():
        return _find_true(candidates)
    lowest, places = torch.finfo(scores.dtype).min, _draw_places(n, scores.device)
    sample = torch.nan_to_num(scores[places], nan=lowest).masked_fill(~candidates[places], lowest)
    above = _find_true(scores >= _find_kth_highest(sample, rank))
    fewer = above[candidates[above]]
    return fewer if len(fewer) >= count else _find_true(candidates)


@functools.lru_cache(maxsize=8)
def _draw_places(n: int, device: torch.device) -> Tensor:
    """Draw the places of a sample among ``n``, always the same ones.

    Places at a stride would be a few columns of the matrix, and scores differ most between columns.
    """
    return torch.from_numpy(np.random.default_rng(0).integers(n, size=_SAMPLE)).to(device)


def select_top_per_row(scores: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """Select the highest scores among the candidates of each row.

    Args:
        scores: Scores, shape ``(rows, n)``.
        candidates: Mask of the scores that may be selected, boolean, shape ``(rows, n)``.
        counts: Number of scores to select in each row, at most its candidates, int64, shape ``(rows,)``.

    Returns:
        Mask of the selected scores, boolean, shape ``(rows, n)``.
    """
    lowest = torch.finfo(scores.dtype).min
    scores = torch.nan_to_num(scores, nan=lowest).masked_fill(~candidates, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    wanted = torch.arange(scores.shape[1], device=scores.device) < counts[:, None]
    return torch.zeros_like(candidates).scatter_(1, order, wanted)
