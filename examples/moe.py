"""The character transformer with mixtures of experts instead of dense layers after attention (Shazeer et al., 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from examples.chars import Batch, CharTransformer
from psn_lightning import Mixture, auxiliary_loss


class MixtureBlock(nn.Module):
    """Attention, then a mixture of experts."""

    def __init__(self, width: int, heads: int, mixture: Mixture) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mixture = mixture.make_layer(width, width)

    def forward(self, x: Tensor, mask: Tensor, is_causal: bool) -> Tensor:
        """Tokens; each goes to experts of its own."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, attn_mask=mask, is_causal=is_causal, need_weights=False)[0]
        return x + self.mixture(self.norm2(x))


class MixtureTransformer(CharTransformer):
    """A model of the next character, of mixtures.

    Args:
        context: Number of characters that a prediction may look back at.
        width: Width of a token.
        depth: Number of blocks: attention, then a mixture.
        heads: Attention heads of a block; the number divides the width.
        lr: Learning rate of AdamW at the start; it falls to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
        mixture: Settings of the mixtures.
    """

    def __init__(
        self,
        context: int = 128,
        width: int = 96,
        depth: int = 3,
        heads: int = 4,
        lr: float = 0.002,
        weight_decay: float = 0.01,
        mixture: Mixture = Mixture(experts=8, active=2, hidden=192),  # noqa: B008, frozen
    ) -> None:
        super().__init__(context, width, 0, heads, lr, weight_decay)
        self.blocks = nn.ModuleList(MixtureBlock(width, heads, mixture) for _ in range(depth))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy, and the losses that keep the experts equally busy."""
        loss, balance = self.loss(batch), auxiliary_loss(self)
        self.log_dict({"train/loss": loss, "train/auxiliary_loss": balance})
        return loss + balance
