"""masked storage: the user's own parameter, zero at absent connections, and a mask beside it; any device."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook

from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.states import masked_state
from psn_lightning.topology import Connectivity

_LAYERS = "_sparse_layers"  # attribute of a module: its masked layers by parameter name


class MaskedLayer(SparseLayer):
    """A sparse weight kept as one dense parameter that is zero at absent connections (W ⊙ M, section 2.4).

    The module stays what it is: class, parameters, forward pass and state-dict keys; the mask is the buffer
    ``<parameter>_mask`` beside the parameter. The product with the mask is taken where it costs least: the weight is
    zero at absent connections by construction, and a hook on the parameter masks its gradient before it is
    accumulated (and before DDP averages it), so any optimizer leaves the zeros alone.

    Args:
        module: The module that owns the parameter.
        name: Name of the parameter in the module.
        connectivity: The connections; values of the parameter elsewhere are set to 0.
    """

    storage: ClassVar[Literal["masked", "csr"]] = "masked"

    def __init__(self, module: nn.Module, name: str, connectivity: Connectivity) -> None:
        self._module, self._name = module, name
        self._records = False
        self._full: bool | None = None  # whether nothing is absent; None: not known
        self._hooked: weakref.ref[nn.Parameter] | None = None
        self._handle: Any = None
        weight = self.parameter
        mask = torch.from_numpy(connectivity.mask()).reshape(weight.shape).to(weight.device)
        module.register_buffer(f"{name}_mask", mask)
        vars(module).setdefault(_LAYERS, {})[name] = self
        before = module.register_load_state_dict_pre_hook(self._before_load)  # type: ignore[no-untyped-call]
        after = module.register_load_state_dict_post_hook(self._after_load)  # type: ignore[no-untyped-call]
        self._loading = [before, after]
        with torch.no_grad():
            weight.masked_fill_(~mask, 0)
        self.attach()

    def __getstate__(self) -> dict[str, Any]:
        """What is read from a file has a parameter of its own, without the hook: see :meth:`attach`."""
        return {**self.__dict__, "_hooked": None, "_handle": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedLayer:
        """Of a copied module; its parameter is hooked at once."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        weight = copy.deepcopy(self.parameter, memo)  # which the copied module takes from the memo
        vars(copied).update({key: copy.deepcopy(value, memo) for key, value in self.__getstate__().items()})
        copied._hook(weight)
        return copied

    def attach(self) -> None:
        """Hook the parameter, unless it is; one from a file, or one that can be trained only now, is not."""
        self._hook(self.parameter)

    def _hook(self, weight: nn.Parameter) -> None:
        if weight.requires_grad and (self._hooked is None or self._hooked() is not weight):
            self._handle = weight.register_hook(self._masked_gradient)  # type: ignore[no-untyped-call]
            self._hooked = weakref.ref(weight)

    def remove(self) -> None:
        """Take buffer and hooks off; the module is plain again, its absent weights are 0."""
        for handle in self._loading:
            handle.remove()
        if self._handle is not None:
            self._handle.remove()
        layers = vars(self._module)[_LAYERS]
        del layers[self._name]
        delattr(self._module, f"{self._name}_mask")
        if not layers:
            delattr(self._module, _LAYERS)

    def share(self, module: nn.Module) -> None:
        """Have the mask applied, too, when another module that has the same parameter is loaded."""
        handle = module.register_load_state_dict_post_hook(self._after_load)  # type: ignore[no-untyped-call]
        self._loading.append(handle)

    @torch.no_grad()
    def _after_load(self, module: nn.Module, incompatible_keys: Any) -> None:
        """Another tensor may be in the parameter's place, and another module that shares it may have loaded it."""
        self.attach()
        self.parameter.masked_fill_(~self._mask, 0)

    @unserializable_hook  # type: ignore[untyped-decorator]
    def _masked_gradient(self, gradient: Tensor) -> Tensor | None:
        """Hook of the parameter."""
        return None if self._records or self.full else gradient * self._mask

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
        """Take what csr wrote, and weights of a dense model: these keep the present mask."""
        self._full = None
        try:
            masked_state(state_dict, prefix, self._name, self._mask)
        except ValueError as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")

    @property
    def n_out(self) -> int:
        """See the interface."""
        return self.parameter.shape[0]

    @property
    def n_in(self) -> int:
        """See the interface."""
        return self.parameter[0].numel()

    @property
    def parameter(self) -> nn.Parameter:
        """See the interface."""
        parameter: nn.Parameter = getattr(self._module, self._name)
        return parameter

    @property
    def _mask(self) -> Tensor:
        """In the weight's shape."""
        mask: Tensor = getattr(self._module, f"{self._name}_mask")
        return mask

    @property
    def mask(self) -> Tensor:
        """See the interface."""
        return self._mask.flatten(1)

    @property
    def full(self) -> bool:
        """Whether no connection is absent: then the mask costs nothing."""
        if self._full is None:
            self._full = bool(self._mask.all())
        return self._full

    @property
    def record_dense_gradient(self) -> bool:
        """See the interface."""
        return self._records

    @record_dense_gradient.setter
    def record_dense_gradient(self, records: bool) -> None:
        self._records = records

    @property
    def connectivity(self) -> Connectivity:
        """See the interface."""
        return Connectivity.from_mask(self.mask.cpu().numpy())

    @property
    def fan_in(self) -> Tensor:
        """See the interface."""
        return self.mask.sum(dim=1)

    def active_positions(self) -> Tensor:
        """See the interface."""
        return self._mask.flatten().nonzero().squeeze(1)

    def active_values(self) -> Tensor:
        """See the interface."""
        return self.parameter.detach()[self._mask]

    @torch.no_grad()
    def set_values(self, values: Tensor) -> None:
        """See the interface."""
        self.parameter[self._mask] = values.to(self.parameter)

    @torch.no_grad()
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """See the interface."""
        old = self._mask
        new = torch.zeros(old.numel(), dtype=torch.bool, device=old.device)
        new[positions] = True
        new = new.view(old.shape)
        changed, stayed = old ^ new, int((old & new).sum())
        for tensor in (self.parameter, *moments):
            tensor.masked_fill_(changed, 0)
        old.copy_(new)
        self._full = None
        return stayed

    def compress(self, moment: Tensor) -> Tensor:
        """See the interface."""
        return moment[self._mask]

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """See the interface."""
        dense = moment.new_zeros(self._mask.numel())
        dense[positions] = moment
        return dense.view(self._mask.shape)

    @torch.no_grad()
    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """See the interface."""
        self.attach()
        if not self.full:
            for tensor in (self.parameter, *moments):
                tensor.mul_(self._mask)

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """See the interface."""
        gradient = self.parameter.grad
        if gradient is not None and not self.full:
            gradient.mul_(self._mask)

    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """See the interface."""
        gradient = self.parameter.grad
        if gradient is None or not (self._records or self.full):
            raise RuntimeError("no dense gradient: set record_dense_gradient before the backward pass")
        return gradient[neurons].flatten(1)

    def gradient_magnitude(self) -> Tensor:
        """See the interface."""
        gradient = self.parameter.grad
        if gradient is None:
            raise RuntimeError("no gradient yet: call it between the backward pass and the optimizer step")
        return (gradient.abs() * self._mask).flatten(1).sum(dim=1)


def masked_layers_of(module: nn.Module) -> dict[str, MaskedLayer]:
    """The masked layers that a module owns itself, by parameter name."""
    layers: dict[str, MaskedLayer] = vars(module).get(_LAYERS, {})
    return layers
