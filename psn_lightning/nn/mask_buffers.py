"""Mask of a parameter, and the group of each neuron, as buffers of its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from psn_lightning.nn.sharing import shares_mask
from psn_lightning.nn.states import convert_to_masked
from psn_lightning.topology import Connectivity


class MaskBuffers:
    """Buffers ``<parameter>_mask`` and, where neurons share their inputs in groups, ``<parameter>_groups``.

    State dicts of any storage, and of a dense model, which keeps the present mask, can be loaded into the module.

    Args:
        module: Module that owns the parameter.
        name: Name of the parameter in the module.
        connectivity: Connections of the layer.
        on_load: Called after a state dict is loaded.
    """

    def __init__(self, module: nn.Module, name: str, connectivity: Connectivity, on_load: Callable[[], None]) -> None:
        self._module, self._name, self._on_load = module, name, on_load
        self._count: int | None = None  # number of active connections; None until counted
        weight: nn.Parameter = getattr(module, name)
        mask = torch.from_numpy(connectivity.mask()).reshape(weight.shape).to(weight.device)
        module.register_buffer(f"{name}_mask", mask)
        groups = connectivity.groups
        module.register_buffer(f"{name}_groups", None if groups is None else torch.tensor(groups, device=weight.device))
        before = module.register_load_state_dict_pre_hook(self._before_load)  # type: ignore[no-untyped-call]
        self._loading = [before]
        self.share(module)

    @property
    def mask(self) -> Tensor:
        """Boolean mask in the shape of the parameter."""
        mask: Tensor = getattr(self._module, f"{self._name}_mask")
        return mask

    @property
    def groups(self) -> Tensor | None:
        """Group of each neuron; None where neurons do not share their inputs in groups."""
        groups: Tensor | None = getattr(self._module, f"{self._name}_groups")
        return groups

    def _set_groups(self, groups: Tensor | None) -> None:
        setattr(self._module, f"{self._name}_groups", groups)

    @property
    def n_active(self) -> int:
        """Number of active connections; counted once after each change."""
        if self._count is None:
            self._count = int(self.mask.sum())
        return self._count

    def count(self) -> int | Tensor:
        """Count the active connections without waiting for the device."""
        return self.mask.sum() if self._count is None else self._count

    def replace(self, mask: Tensor) -> None:
        """Overwrite the mask; groups stay where the neurons of each still share their inputs.

        Args:
            mask: Boolean mask in the shape of the parameter.
        """
        self.mask.copy_(mask)
        self._count = None
        if self.groups is not None and not shares_mask(mask, self.groups):
            self._set_groups(None)

    def assign(self, mask: Tensor) -> None:
        """Overwrite the mask without waiting for the device; whether groups still hold is not known then.

        Args:
            mask: Boolean mask in the shape of the parameter.
        """
        self.mask.copy_(mask)
        self._count = None
        self._set_groups(None)

    def share(self, module: nn.Module) -> None:
        """Call ``on_load`` also after a state dict is loaded into another module that holds the same parameter."""
        handle = module.register_load_state_dict_post_hook(self._after_load)  # type: ignore[no-untyped-call]
        self._loading.append(handle)

    def remove(self) -> None:
        """Remove buffers and hooks from the module."""
        for handle in self._loading:
            handle.remove()
        delattr(self._module, f"{self._name}_mask")
        delattr(self._module, f"{self._name}_groups")

    def _before_load(
        self,
        module: nn.Module,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Convert entries of another storage or of a dense model; hook before loading."""
        self._count = None
        try:
            convert_to_masked(state_dict, prefix, self._name, self.mask, self.groups)
        except ValueError as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")
        if f"{prefix}{self._name}_mask" in state_dict:  # else the mask stays as it is, and so do its groups
            stored = state_dict.get(f"{prefix}{self._name}_groups")  # loaded only into a buffer that is there
            self._set_groups(torch.empty_like(stored, device=self.mask.device) if isinstance(stored, Tensor) else None)

    def _after_load(self, module: nn.Module, incompatible_keys: Any) -> None:
        self._on_load()
