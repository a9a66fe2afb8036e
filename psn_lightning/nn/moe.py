"""Mixture of experts with noisy top-k gating and two balance losses (Shazeer et al., 2017, arXiv 1701.06538)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.weights import sparse_layers

_SMALLEST_NOISE = 0.01  # standard deviation that is added to the learned one


class Routing(NamedTuple):
    """Choice of experts for a batch of rows."""

    experts: Tensor
    """Numbers of the chosen experts, int64, shape ``(rows, active)``."""
    gates: Tensor
    """Their weights, which sum to 1 in each row, shape ``(rows, active)``, float32 or float64."""
    counts: Tensor
    """Number of rows of each expert, int64, shape ``(experts,)``."""
    importance: Tensor
    """Sum of the gates of each expert, shape ``(experts,)``."""
    load: Tensor
    """Smooth estimate of ``counts`` with a gradient, shape ``(experts,)``; ``counts`` itself without noise."""


class MixtureLayer(nn.Module):
    """Layer that computes ``active`` of its ``experts`` for each row: y = Σ_i G(x)_i E_i(x).

    An expert is a network with one hidden ReLU layer. The gates are the softmax over the ``active`` largest values of
    H(x) = x W_g + ε ⊙ (softplus(x W_noise) + 0.01) with ε ~ N(0, 1) in training mode, and of x W_g in evaluation mode
    (sections 2.1 and 4, appendix A). Both matrices start at 0: in training all experts are then equally likely.

    The forward pass waits for the device once, for the number of rows of each expert. No row is dropped. Every expert
    is part of the graph, also without rows, so that each parameter has a gradient under DDP. Gates and losses are
    computed in float32 under AMP. While the module is exported (``torch.export``), all experts compute all rows: the
    result is the same, the cost that of a dense mixture.

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        experts: Number of experts.
        active: Number of experts that each row goes through.
        hidden: Hidden neurons of an expert; None gives all experts together the connections of a dense layer,
            ⌊n_in n_out / (experts (n_in + n_out))⌋.
        noise: Whether to add noise to the gates in training mode.
        importance: Weight of the squared coefficient of variation of the experts' importance in the loss.
        load: Weight of that of their load.

    Raises:
        SettingError: If an argument is out of range, or ``hidden`` would be 0.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        experts: int = 16,
        active: int = 2,
        hidden: int | None = None,
        noise: bool = True,
        importance: float = 0.1,
        load: float = 0.1,
    ) -> None:
        super().__init__()
        if not 1 <= active <= experts:
            raise SettingError(f"active {active} must be at least 1 and at most the number of experts, {experts}")
        for name, weight in (("importance", importance), ("load", load)):
            if not 0 <= weight < float("inf"):
                raise SettingError(f"{name} {weight} must be a number ≥ 0: 0 switches this loss off")
        hidden = n_in * n_out // (experts * (n_in + n_out)) if hidden is None else hidden
        if hidden < 1:
            raise SettingError(
                f"hidden is {hidden} for {experts} experts of {n_in} inputs and {n_out} outputs: give at least 1. None "
                "shares the connections of one dense layer, too few for so many experts"
            )
        self.n_in, self.n_out, self.active, self.hidden = n_in, n_out, active, hidden
        self.importance, self.load = importance, load
        self.gate = nn.Parameter(torch.zeros(n_in, experts))
        self.noise = nn.Parameter(torch.zeros(n_in, experts)) if noise else None
        self.experts = nn.ModuleList(_make_expert(n_in, hidden, n_out) for _ in range(experts))
        self.balance_loss: Tensor | None = None
        """Weighted balance losses of the last forward pass in training mode, a scalar; None after evaluation."""
        self.row_counts = torch.zeros(experts, dtype=torch.int64)
        """Rows of each expert in training mode since this was last set to 0, int64, shape ``(experts,)``."""

    def __getstate__(self) -> dict[str, Any]:
        """State without the loss, whose graph can be neither copied nor pickled."""
        return {**self.__dict__, "balance_loss": None}

    def extra_repr(self) -> str:
        """Sizes, for ``repr``."""
        return f"{self.n_in}, {self.n_out}, experts={len(self.experts)}, active={self.active}, hidden={self.hidden}"

    def forward(self, x: Tensor) -> Tensor:
        """Compute outputs of shape ``(…, n_out)`` from an input of shape ``(…, n_in)``."""
        rows = x.reshape(-1, x.shape[-1])
        routing = self.route(rows)
        self.balance_loss = self._compute_balance_loss(routing) if self.training else None
        if self.training:
            self.row_counts = self.row_counts.to(routing.counts.device) + routing.counts
        outputs = self._mix_all(rows, routing) if torch.compiler.is_exporting() else self._mix_chosen(rows, routing)
        return outputs.view(*x.shape[:-1], self.n_out)

    def route(self, rows: Tensor) -> Routing:
        """Choose the experts of each row; in training mode noise is drawn from torch's generator.

        Args:
            rows: Inputs, shape ``(rows, n_in)``.
        """
        with torch.autocast(rows.device.type, enabled=False):
            wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
            clean = noisy = wide @ self.gate.to(wide)
            scale = None
            if self.training and self.noise is not None:
                scale = F.softplus(wide @ self.noise.to(wide)) + _SMALLEST_NOISE
                noisy = clean + scale * torch.randn_like(scale)
            top, ranked = noisy.topk(min(self.active + 1, len(self.experts)), dim=1)
            experts, gates = ranked[:, : self.active], top[:, : self.active].softmax(dim=1)
            importance = torch.zeros_like(noisy).scatter(1, experts, gates).sum(dim=0)
            is_chosen = torch.zeros_like(noisy, dtype=torch.bool).scatter(1, experts, True)
            counts = is_chosen.sum(dim=0)
            if scale is None or self.active == len(self.experts):
                return Routing(experts, gates, counts, importance, counts.to(wide))
            # The value to beat if only the noise of one expert is drawn anew: the active-th largest of the others.
            threshold = torch.where(is_chosen, top[:, -1:], top[:, -2:-1])
            load = torch.special.ndtr((clean - threshold) / scale).sum(dim=0)
            return Routing(experts, gates, counts, importance, load)

    def _compute_balance_loss(self, routing: Routing) -> Tensor:
        return self.importance * squared_cv(routing.importance) + self.load * squared_cv(routing.load)

    def _mix_chosen(self, rows: Tensor, routing: Routing) -> Tensor:
        """Compute each expert on its rows only; pairs of row and expert are sorted by expert."""
        order = routing.experts.flatten().argsort(stable=True)
        counts = routing.counts.tolist()  # the only wait for the device
        parts = torch.split(rows.index_select(0, order // self.active), counts)
        # An expert without rows computes an empty batch: its gradients are zeros, not None.
        outputs = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])
        by_row = outputs.index_select(0, order.argsort()).view(rows.shape[0], self.active, self.n_out)
        return (routing.gates.unsqueeze(2) * by_row).sum(dim=1).to(outputs.dtype)

    def _mix_all(self, rows: Tensor, routing: Routing) -> Tensor:
        """Compute all experts on all rows: no size depends on the data."""
        gates = routing.gates.new_zeros(rows.shape[0], len(self.experts)).scatter(1, routing.experts, routing.gates)
        outputs = torch.stack([expert(rows) for expert in self.experts], dim=1)
        return (gates.unsqueeze(2) * outputs).sum(dim=1).to(outputs.dtype)

    def count_connections(self) -> int:
        """Count the connections of all experts; a row uses the share ``active / experts`` of them."""
        sparse = sparse_layers(self.experts).values()
        views = {id(layer.parameter) for layer in sparse}
        dense = sum(p.numel() for p in self.experts.parameters() if p.dim() > 1 and id(p) not in views)
        return dense + sum(len(layer.active_positions()) for layer in sparse)


@dataclass(frozen=True)
class Mixture:
    """Settings of the mixture layers of a network.

    Args:
        experts: Number of experts of a layer.
        active: Number of experts that each row goes through.
        hidden: Hidden neurons of an expert; None gives all experts together the connections of a dense layer.
        noise: Whether to add noise to the gates in training.
        importance: Weight of the loss that balances the experts' gates.
        load: Weight of the loss that balances the experts' numbers of rows.
    """

    experts: int = 16
    active: int = 2
    hidden: int | None = None
    noise: bool = True
    importance: float = 0.1
    load: float = 0.1

    def make_layer(self, n_in: int, n_out: int) -> MixtureLayer:
        """Make a layer with these settings; raises the errors of :class:`MixtureLayer`."""
        return MixtureLayer(n_in, n_out, **asdict(self))


def mixture_layers(module: nn.Module) -> dict[str, MixtureLayer]:
    """Return the mixture layers of a module by qualified name; empty for a module without mixtures."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, MixtureLayer)}


def auxiliary_loss(module: nn.Module) -> Tensor:
    """Sum the balance losses of all mixture layers of a module, to be added to the loss of a training step.

    Each layer contributes the loss of its last forward pass in training mode; a pass in evaluation mode resets it to
    0. Call the function after every forward pass of a step that has several. Under DDP the losses are those of the
    local batch.

    Args:
        module: Any module.

    Returns:
        Scalar; 0 for a module without mixtures.
    """
    losses = [layer.balance_loss for layer in mixture_layers(module).values() if layer.balance_loss is not None]
    parameter = next(module.parameters(), torch.zeros(()))
    return sum(losses, parameter.new_zeros(()))


def squared_cv(values: Tensor) -> Tensor:
    """Compute the squared coefficient of variation, population variance / (mean² + 1e-10), a scalar."""
    return values.var(correction=0) / (values.mean().square() + 1e-10)


def _make_expert(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(hidden=nn.Linear(n_in, hidden), relu=nn.ReLU(), output=nn.Linear(hidden, n_out)))
