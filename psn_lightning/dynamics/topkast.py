"""Top-KAST: forward pass with the largest weights, gradients for these and the next ones (arXiv 2106.03517)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from psn_lightning.dynamics.latent import LatentLayer
from psn_lightning.dynamics.selection import select_top
from psn_lightning.errors import SettingError
from psn_lightning.nn import MaskedLayer


class TopKASTLayer(LatentLayer):
    """Layer that computes with A, the largest |θ|, and trains B ⊇ A (Jayakumar et al., 2020, section 2).

    The gradient of θ is the loss's gradient to the effective weights within B, and 0 elsewhere: weights outside B do
    not move, whatever moments and weight decay say. The counts are exact; ties go to the lower position.

    The penalty is c · (‖θ_A‖ + ‖θ_{B∖A}‖ / D) with 2-norms and the density D of A: weights that are not in use pay
    more, so that a newcomer needs a reason to stay. The gradient of the penalty is added in :meth:`before_step`: the
    loss of the task stays what it is, and micro-batches and processes count it once.

    Args:
        layer: Dense layer in storage masked.
        sparsity: Share of positions outside A, in [0, 1).
        backward_sparsity: Share of positions outside B, in [0, sparsity].
        penalty: Factor c of the penalty.

    Raises:
        SettingError: If no connection would be left.
    """

    def __init__(self, layer: MaskedLayer, sparsity: float, backward_sparsity: float, penalty: float) -> None:
        super().__init__(layer)
        size = self.latent.numel()
        self.n_forward, self.n_backward = (round((1 - s) * size) for s in (sparsity, backward_sparsity))
        if self.n_forward == 0:
            raise SettingError(f"sparsity {sparsity} leaves none of {size} connections: lower it, or exclude the layer")
        self.penalty = penalty
        self.backward = torch.ones_like(self.latent, dtype=torch.bool)
        """Mask of B, in the shape of the parameter."""
        self.layer.trained = self.backward

    @torch.no_grad()
    def refresh(self, moments: Iterable[Tensor] = ()) -> None:
        """Select A and B anew from |θ|; to be called between two steps, and before the first one.

        Args:
            moments: Optimizer tensors in the shape of the parameter; a position that enters B starts at 0.
        """
        magnitudes = self.latent.flatten().abs()
        backward = select_top(magnitudes, self.n_backward)
        forward = backward[select_top(magnitudes[backward], self.n_forward)]
        old = self.backward
        self.backward = self._make_mask(backward)
        for moment in moments:
            moment.masked_fill_(~(old & self.backward), 0)
        self.layer.trained = self.backward
        self.layer.assign(self.latent, self._make_mask(forward))

    def stop_exploring(self) -> None:
        """Let B be A from the next :meth:`refresh` on."""
        self.n_backward = self.n_forward

    def _make_mask(self, positions: Tensor) -> Tensor:
        mask = torch.zeros(self.latent.numel(), dtype=torch.bool, device=self.latent.device)
        mask[positions] = True
        return mask.view(self.latent.shape)

    def compute_penalty(self) -> Tensor:
        """Compute the penalty of the present θ between two steps, a scalar."""
        active: Tensor = torch.linalg.vector_norm(self.layer.parameter.detach())  # θ_A, and 0 elsewhere
        waiting: Tensor = torch.linalg.vector_norm(self._waiting_weights())
        return self.penalty * (active + self._waiting_factor * waiting)

    @property
    def _waiting_factor(self) -> float:
        """1 / D, the number of positions for each connection."""
        return self.latent.numel() / self.n_forward

    def _waiting_weights(self) -> Tensor:
        """θ_{B∖A}, and 0 elsewhere."""
        return torch.where(self.backward & ~self._active, self.latent, 0)

    @property
    def _active(self) -> Tensor:
        return self.layer.mask.view(self.latent.shape)

    def _convert_gradient(self, gradient: Tensor) -> None:
        self.layer.mask_gradient()
        if self.penalty > 0:
            waiting = self._waiting_weights()
            for weights, factor in ((self.layer.parameter, 1.0), (waiting, self._waiting_factor)):
                norm = torch.linalg.vector_norm(weights)
                # The gradient of a norm is θ / ‖θ‖; of a norm of zeros the subgradient 0 is taken.
                gradient.addcmul_(weights, factor * self.penalty / torch.where(norm > 0, norm, 1))

    def _take_step(self, stepped: Tensor) -> None:
        self.latent = torch.where(self.backward, stepped, self.latent)
        stepped.masked_fill_(~self._active, 0)

    def state_dict(self) -> dict[str, Tensor]:
        """Latent weights and the mask of B; copies on the CPU."""
        return super().state_dict() | {"backward": self.backward.cpu().clone()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.backward = state_dict["backward"].to(self.latent.device)
        self.layer.trained = self.backward
