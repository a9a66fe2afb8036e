"""Exact selection of the highest scores: ties go to the lower position, NaN is the lowest score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SAMPLE, _SMALL_SAMPLE = 2**14, 2**11  # scores that a first bound is taken from


def top(scores: Tensor, count: int) -> Tensor:
    """Positions of exactly ``count`` scores, the highest ones.

    Args:
        scores: Shape ``(n,)``.
        count: How many, at most ``n``.

    Returns:
        Positions in ascending order, int64, shape ``(count,)``.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    threshold = _kth_highest(scores, count)
    chosen = scores > threshold
    above = _where(chosen)
    chosen[_where(scores == threshold)[: count - len(above)]] = True
    return _where(chosen)


def ascending(positions: Tensor) -> Tensor:
    """Positions sorted; of few ascending runs, which numpy only has to merge."""
    if positions.device.type == "cpu":
        return torch.from_numpy(np.sort(positions.numpy(), kind="stable"))
    return positions.sort().values


def _where(mask: Tensor) -> Tensor:
    """Positions of what is set; numpy finds them in half the time."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _kth_highest(scores: Tensor, count: int) -> Tensor:
    """The ``count``-th highest score; of many, only those near it are selected from, where a sample shows it to be."""
    stride = len(scores) // _SMALL_SAMPLE
    if stride < 16:
        return scores.topk(count, sorted=False).values.min()
    sample = scores[::stride].sort(descending=True).values
    place, margin = count // stride, len(sample) // 20
    high, low = sample[max(0, place - margin)], sample[min(len(sample) - 1, place + margin)]
    near = scores[(scores <= high) & (scores >= low)]
    rank = count - len(_where(scores > high))
    if not 0 < rank <= len(near):  # the sample was not like the rest
        return scores.topk(count, sorted=False).values.min()
    return near.topk(rank, sorted=False).values.min()


class RunningTop:
    """:func:`top` over scores that arrive block by block, in ascending order of position.

    Holds at most ``count`` scores beside those of a block, so that a layer whose dense scores would not
    fit into memory can be searched.

    Args:
        count: How many positions are wanted.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._scores: Tensor | None = None
        self._positions: Tensor | None = None

    def add(self, scores: Tensor, candidates: Tensor, offset: int) -> None:
        """Take a block into account.

        Args:
            scores: Any shape.
            candidates: Which of them may be chosen, boolean, same shape.
            offset: Position of the block's first score.
        """
        if self._scores is not None and self._positions is not None and len(self._scores) == self.count > 0:
            candidates = candidates & (scores > self._scores.min())  # equal ones came too late
        index = _promising(scores.flatten(), candidates.flatten(), self.count)
        values, positions = scores.flatten()[index], index + offset
        if self._scores is not None and self._positions is not None:
            values, positions = torch.cat([self._scores, values]), torch.cat([self._positions, positions])
        chosen = top(values, min(self.count, len(values)))
        self._scores = torch.nan_to_num(values[chosen], nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        self._positions = positions[chosen]

    def positions(self) -> Tensor:
        """The chosen positions in ascending order, int64.

        Raises:
            RuntimeError: If fewer candidates came than are wanted.
        """
        if self._positions is None or len(self._positions) < self.count:
            raise RuntimeError(f"{self.count} connections are to grow, but fewer positions are free")
        return self._positions


def _promising(scores: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Positions of candidates, the ``count`` best among them: those above a bound that a sample suggests.

    To look through a million scores takes a tenth of the time that selecting from them does.
    """
    stride = scores.numel() // _SAMPLE
    rank = int(1.2 * count / max(stride, 1)) + 20  # a margin; where it does not suffice, nothing is left out
    if stride < 2 or rank > _SAMPLE // 2 or not scores.is_floating_point():
        return _where(candidates)
    lowest = torch.finfo(scores.dtype).min
    sample = torch.nan_to_num(scores[::stride], nan=lowest)
    bound = sample.masked_fill(~candidates[::stride], lowest).topk(rank, sorted=False).values.min()
    fewer = _where(candidates & (scores >= bound))
    return fewer if len(fewer) >= count else _where(candidates)


def top_per_row(scores: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """Mask of the highest scores among each row's candidates.

    Args:
        scores: Shape ``(rows, n)``.
        candidates: Which of them may be chosen, boolean, same shape.
        counts: How many in each row, shape ``(rows,)``; at most the row's candidates.

    Returns:
        Boolean, shape ``(rows, n)``.
    """
    lowest = torch.finfo(scores.dtype).min
    scores = torch.nan_to_num(scores, nan=lowest).masked_fill(~candidates, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    wanted = torch.arange(scores.shape[1], device=scores.device) < counts[:, None]
    return torch.zeros_like(candidates).scatter_(1, order, wanted)
