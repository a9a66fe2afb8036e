"""Storage masked: a dense parameter that is 0 at absent connections, and a mask as a buffer; any device."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook

from psn_lightning.nn.activity import Activity, ActivityRecorder, draw_seed, shows_activity, sum_module
from psn_lightning.nn.layer import SparseLayer, StorageKind
from psn_lightning.nn.mask_buffers import MaskBuffers
from psn_lightning.nn.parameter_hook import ParameterHook
from psn_lightning.nn.processes import get_world_size
from psn_lightning.topology import Connectivity

_LAYERS = "_sparse_layers"  # name of the module attribute that holds its masked layers by parameter name


class MaskedLayer(SparseLayer):
    """Sparse weight stored as a dense parameter that is 0 at absent connections (W ⊙ M, arXiv 2604.10560, section 2.4).

    The module keeps its class, parameters, forward pass and state-dict keys; the mask is added as the buffer
    ``<parameter>_mask``, and where neurons share their inputs in groups, the group of each as ``<parameter>_groups``.
    The forward pass does not multiply by the mask: the weight is 0 at absent connections by construction, and a hook
    masks the gradient before it is accumulated (and before DDP averages it), so that an optimizer leaves absent weights
    at 0.

    Args:
        module: Module that owns the parameter.
        name: Name of the parameter in the module.
        connectivity: Connections of the layer; the parameter is set to 0 everywhere else.
    """

    storage: StorageKind = "masked"

    def __init__(self, module: nn.Module, name: str, connectivity: Connectivity) -> None:
        self._module, self._name = module, name
        self._records = False
        self._recorder: ActivityRecorder | None = None
        self.trained: Tensor | None = None
        """Positions that train, active or not: boolean, shape of the parameter; None for the active ones.

        A method whose weights are a function of others (:mod:`psn_lightning.dynamics.latent`) sets it. Gradients and
        moments are then kept at these positions.
        """
        self._hook = ParameterHook(self._masked_gradient)
        self._buffers = MaskBuffers(module, name, connectivity, self._after_load)
        vars(module).setdefault(_LAYERS, {})[name] = self
        self._after_load()

    def __getstate__(self) -> dict[str, Any]:
        """State without the method of training, and with the parameter, which an unpickled layer hooks."""
        return {**self._state_of_copy(), "_parameter": self.parameter}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, and hook the parameter; the module, which refers to this layer, may not be there yet."""
        parameter = state.pop("_parameter")
        vars(self).update(state)
        self._hook.attach(parameter)

    def _state_of_copy(self) -> dict[str, Any]:
        """State without the method of training; a copy that is made while gradients are recorded does not record."""
        return {**self.__dict__, "_records": False, "_recorder": None, "trained": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedLayer:
        """Copy the layer together with its module, and hook the copied parameter."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        weight = copy.deepcopy(self.parameter, memo)  # the copied module gets the same copy from the memo
        vars(copied).update({key: copy.deepcopy(value, memo) for key, value in self._state_of_copy().items()})
        copied._hook.attach(weight)
        return copied

    def attach(self) -> None:
        """Register the gradient hook on the parameter, unless it is registered."""
        self._hook.attach(self.parameter)

    def remove(self) -> None:
        """Remove the mask and the hooks from the module; absent weights stay in the parameter as zeros."""
        self._buffers.remove()
        self._hook.remove()
        layers = vars(self._module)[_LAYERS]
        del layers[self._name]
        if not layers:
            delattr(self._module, _LAYERS)

    def share(self, module: nn.Module) -> None:
        """Apply the mask also after a state dict is loaded into another module that holds the same parameter."""
        self._buffers.share(module)

    @torch.no_grad()
    def _after_load(self) -> None:
        """Hook and mask the parameter: loading may replace the tensor, or fill it through another module."""
        self.attach()
        self.parameter.masked_fill_(~self._mask, 0)

    @unserializable_hook  # type: ignore[untyped-decorator]
    def _masked_gradient(self, gradient: Tensor) -> Tensor | None:
        """Mask the gradient; hook of the parameter. A product would keep NaN, and takes twice as long."""
        return None if self._records or self.full else torch.where(self._trained_or_active, gradient, 0)

    @property
    def groups(self) -> Tensor | None:
        """Group of each neuron, where neurons share their inputs; see :attr:`SparseLayer.groups`."""
        return self._buffers.groups

    @property
    def n_out(self) -> int:
        """Number of neurons."""
        return self.parameter.shape[0]

    @property
    def n_in(self) -> int:
        """Number of inputs of a neuron."""
        return self.parameter[0].numel()

    @property
    def parameter(self) -> nn.Parameter:
        """Dense parameter of the module, 0 at absent connections."""
        parameter: nn.Parameter = getattr(self._module, self._name)
        return parameter

    @property
    def _mask(self) -> Tensor:
        """Boolean mask in the shape of the parameter."""
        return self._buffers.mask

    @property
    def mask(self) -> Tensor:
        """Boolean mask, shape ``(n_out, n_in)``; a view of the buffer, read-only."""
        return self._mask.flatten(1)

    @property
    def _trained_or_active(self) -> Tensor:
        """Positions of gradients and moments."""
        return self._mask if self.trained is None else self.trained

    @property
    def full(self) -> bool:
        """Whether all connections are active and train; masking is then skipped."""
        return self.trained is None and self.n_connections == self._mask.numel()

    @property
    def n_connections(self) -> int:
        """Number of active connections; see :attr:`SparseLayer.n_connections`."""
        return self._buffers.n_active

    def count_connections(self) -> int | Tensor:
        """Count the active connections without waiting for the device; see :meth:`SparseLayer.count_connections`."""
        return self._buffers.count()

    def count_gradients(self) -> int | Tensor:
        """Count the positions that train; see :meth:`SparseLayer.count_gradients`."""
        return super().count_gradients() if self.trained is None else self.trained.sum()

    @property
    def record_dense_gradient(self) -> bool:
        """Whether the gradient hook lets the gradient to absent connections pass."""
        return self._records

    @record_dense_gradient.setter
    def record_dense_gradient(self, records: bool) -> None:
        self._records = records

    @property
    def connectivity(self) -> Connectivity:
        """Present connections; from a device only their positions are copied, not the dense mask."""
        groups = None if self.groups is None else self.groups.cpu().numpy()
        if self._mask.device.type == "cpu":
            return Connectivity.from_mask(self.mask.numpy()).with_groups(groups)
        neurons, inputs = np.divmod(self.active_positions().cpu().numpy(), self.n_in)
        fan_in = np.bincount(neurons, minlength=self.n_out)
        return Connectivity.from_fan_in(self.n_in, fan_in, inputs).with_groups(groups)

    @property
    def fan_in(self) -> Tensor:
        """Number of inputs of each neuron, int64, shape ``(n_out,)``."""
        return self.mask.sum(dim=1)

    def active_positions(self) -> Tensor:
        """Flat positions of the active connections, ascending, int64, shape ``(n_connections,)``."""
        return self._mask.flatten().nonzero().squeeze(1)

    def active_values(self) -> Tensor:
        """Weights of the active connections, shape ``(n_connections,)``, detached."""
        return self.parameter.detach()[self._mask]

    @torch.no_grad()
    def set_values(self, values: Tensor) -> None:
        """Overwrite the weights of the active connections; see :meth:`SparseLayer.set_values`."""
        self.parameter[self._mask] = values.to(self.parameter)

    @torch.no_grad()
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which connections are active; see :meth:`SparseLayer.set_active`."""
        old = self._mask
        new = torch.zeros(old.numel(), dtype=torch.bool, device=old.device)
        new[positions] = True
        new = new.view(old.shape)
        changed, stayed = old ^ new, int((old & new).sum())
        for tensor in (self.parameter, *moments):
            tensor.masked_fill_(changed, 0)
        self._buffers.replace(new)
        return stayed

    @torch.no_grad()
    def assign(self, weight: Tensor, mask: Tensor) -> None:
        """Overwrite weights and mask in place, without waiting for the device.

        Args:
            weight: Weights in the shape of the parameter, whatever they are at absent connections.
            mask: Boolean mask in the shape of the parameter.
        """
        self._buffers.assign(mask)
        self.parameter.copy_(torch.where(mask, weight, 0))

    def compress(self, moment: Tensor) -> Tensor:
        """Gather an optimizer tensor by active connection, shape ``(n_connections,)``."""
        return moment[self._mask]

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """Scatter values of the connections at ``positions`` into a tensor in the shape of the parameter."""
        dense = moment.new_zeros(self._mask.numel())
        dense[positions] = moment
        return dense.view(self._mask.shape)

    @torch.no_grad()
    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Set the weights of absent connections to 0, and the moments where nothing trains."""
        self.attach()
        if not self.full:
            self.parameter.masked_fill_(~self._mask, 0)  # a product would keep NaN
            for moment in moments:
                moment.masked_fill_(~self._trained_or_active, 0)

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """Set the gradient to 0 where nothing trains."""
        gradient = self.parameter.grad
        if gradient is not None and not self.full:
            gradient.masked_fill_(~self._trained_or_active, 0)

    def dense_gradient(self, neurons: slice | Tensor = slice(None)) -> Tensor:
        """Dense gradient of a block of neurons; see :meth:`SparseLayer.dense_gradient`."""
        gradient = self.parameter.grad
        if gradient is None or not (self._records or self.full):
            raise RuntimeError("no dense gradient: set record_dense_gradient = True before the backward pass")
        return gradient[neurons].flatten(1)

    def gradient_at(self, positions: Tensor) -> Tensor:
        """Gradient to given positions; see :meth:`SparseLayer.gradient_at`."""
        return self.dense_gradient().flatten()[positions]

    @property
    def shows_activity(self) -> bool:
        """Whether :meth:`activity` can be computed: for the weight of a Linear or a convolution."""
        return shows_activity(self._module, self._name)

    def record_activity(self, records: bool) -> None:
        """Hook the module while its inputs and gradients are recorded."""
        if self._recorder is not None:
            self._recorder.remove()
        self._recorder = ActivityRecorder(self._module) if records else None

    @torch.no_grad()
    def activity(self, generator: torch.Generator | None = None) -> Activity:
        """Sums of inputs and gradients over the rows; see :meth:`SparseLayer.activity`."""
        passes = self._recorder.passes if self._recorder is not None else []
        if not passes and get_world_size() == 1:
            raise RuntimeError(
                f"no activity of {self._name}: call record_activity(True) before the backward pass, and let the weight "
                "be used by its own module"
            )
        # A weight that several modules share is drawn for by the rows of its first module.
        groups = getattr(self._module, "groups", 1)
        like = self.parameter.detach().to(torch.promote_types(self.parameter.dtype, torch.float32))
        zeros = Activity(like.new_zeros(self.n_out), like.new_zeros(groups, self.n_in))
        return sum_module(self._module, passes, zeros, draw_seed(generator))

    def gradient_magnitude(self) -> Tensor:
        """Sum of |gradient| over the active connections of each neuron, shape ``(n_out,)``."""
        gradient = self.parameter.grad
        if gradient is None:
            raise RuntimeError("no gradient: call gradient_magnitude between backward pass and optimizer step")
        return torch.where(self._mask, gradient.abs(), 0).flatten(1).sum(dim=1)


def masked_layers_of(module: nn.Module) -> dict[str, MaskedLayer]:
    """Return the masked layers of a module's own parameters, by parameter name."""
    layers: dict[str, MaskedLayer] = vars(module).get(_LAYERS, {})
    return layers
