"""csr storage: only the active weights are stored and multiplied; on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook

from psn_lightning.kernels.connections import places_in
from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.tiled import Stack
from psn_lightning.kernels.workspace import Stage
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.states import Connections, csr_state, read_connections
from psn_lightning.topology import Connectivity

_ROUNDING = 1e-3  # by how much two ways to compute a gradient may differ


class CSRLinear(nn.Module, SparseLayer):
    """A Linear whose only weights are those of its connections, shape ``(n_connections,)``, by position.

    Growth needs the gradient to absent connections too; it is computed block by block when it is asked for,
    from the activations and gradients that a recording step keeps. State dicts hold ``values``, ``indptr`` and
    ``indices``; a state dict of a masked or a dense Linear loads as well.

    Args:
        connectivity: The connections.
        values: Their weights, shape ``(n_connections,)``.
        bias: Bias, shape ``(n_out,)``; None: the layer has none.
    """

    storage: ClassVar[Literal["masked", "csr"]] = "csr"
    structure: Structure

    def __init__(self, connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = connectivity.n_in, connectivity.n_out
        self.weight = nn.Parameter(torch.empty(0, dtype=values.dtype))
        self.bias = None if bias is None else nn.Parameter(bias)  # after the weight, as in a Linear: optimizers count
        self.register_buffer("_no_bias", values.new_zeros(0 if bias is not None else self.out_features), False)
        self._records = False
        self._recorded: list[tuple[Tensor, Tensor]] = []
        self._pending: list[tuple[int, Tensor, Tensor]] = []  # of backward passes that may not reach the weight
        self._grown: Tensor | None = None  # places of the connections that the latest update made
        self._hooked: weakref.ref[nn.Parameter] | None = None
        self._stack = Stack([])
        self._replace(connectivity, values)

    def _replace(self, connectivity: Connectivity, values: Tensor) -> None:
        self._connect(connectivity.keys())
        self.weight.data = values.detach().to(self.weight, copy=True)
        self.weight.grad = None

    @property
    def n_out(self) -> int:
        """See the interface."""
        return self.out_features

    @property
    def n_in(self) -> int:
        """See the interface."""
        return self.in_features

    @property
    def parameter(self) -> nn.Parameter:
        """See the interface."""
        return self.weight

    @property
    def record_dense_gradient(self) -> bool:
        """See the interface; setting it forgets what was recorded."""
        return self._records

    @record_dense_gradient.setter
    def record_dense_gradient(self, records: bool) -> None:
        self._records = records
        self._recorded, self._pending, self._grown = [], [], None
        if records and (self._hooked is None or self._hooked() is not self.weight):
            self.weight.register_post_accumulate_grad_hook(self._commit)  # type: ignore[no-untyped-call]
            self._hooked = weakref.ref(self.weight)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has a parameter of its own, without the hook."""
        return {**self.__dict__, "_hooked": None}

    @property
    def connectivity(self) -> Connectivity:
        """See the interface."""
        indptr = np.concatenate([[0], np.cumsum(self.structure.fan_in)])
        indices = self.structure.positions % self.in_features
        return Connectivity(self.in_features, self.out_features, indptr, indices)

    @property
    def fan_in(self) -> Tensor:
        """See the interface."""
        return torch.from_numpy(self.structure.fan_in)

    @property
    def mask(self) -> Tensor:
        """See the interface; made for those who ask."""
        mask = torch.zeros(self.out_features, self.in_features, dtype=torch.bool)
        mask.view(-1)[self.active_positions()] = True
        return mask

    def extra_repr(self) -> str:
        """Shown in the network's printout."""
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_features}, {self.out_features}, connections={len(self.weight)}{bias}"

    def active_positions(self) -> Tensor:
        """See the interface."""
        return torch.from_numpy(self.structure.positions)

    def active_values(self) -> Tensor:
        """See the interface."""
        return self.weight.detach()

    def set_values(self, values: Tensor) -> None:
        """See the interface."""
        self.weight.data = values.detach().to(self.weight, copy=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_features)`` to ``(batch, out_features)``."""
        y: Tensor = self._stack(x, [self.weight, self._no_bias if self.bias is None else self.bias])
        return y

    def stage(self, norm: nn.LayerNorm | None = None) -> Stage:
        """This layer in a stack; ``norm`` and ReLU follow, or nothing."""
        return Stage(self.structure, None if norm is None else norm.eps, self._note)

    def _connect(self, positions: NDArray[np.int64]) -> None:
        self.structure = Structure(positions, self.out_features, self.in_features)
        self._stack.connect([self.stage()])

    @torch.no_grad()
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """See the interface; a gradient that waits for its optimizer step moves along.

        Raises:
            RuntimeError: If the number of connections changes where DDP has laid out its buckets for it.
        """
        if len(positions) != len(self.weight) and _world_size() > 1:
            raise RuntimeError(
                f"storage csr keeps its number of connections under DDP ({len(self.weight)}, now {len(positions)}): "
                "storage masked takes rules that change it"
            )
        moments, positions = list(moments), positions.to(torch.int64, copy=True).contiguous()
        places = torch.from_numpy(places_in(self.structure.positions, positions.numpy()))
        gradient = [] if self.weight.grad is None else [self.weight.grad]
        # What is new takes the 0 behind the others.
        moved = [torch.cat([t, t.new_zeros(1)]).index_select(0, places) for t in (self.weight, *moments, *gradient)]
        self._grown = places >= len(self.weight)
        stayed = len(places) - int(self._grown.sum())
        self.weight.grad = None
        self.weight.data = moved[0]
        for tensor, values in zip(moments, moved[1:], strict=False):
            tensor.data = values
        if gradient:
            self.weight.grad = moved[-1]
        self._connect(positions.numpy())
        return stayed

    def compress(self, moment: Tensor) -> Tensor:
        """See the interface; it is so already."""
        return moment

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """See the interface."""
        return moment

    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """See the interface; there is nothing where no connection is."""

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """See the interface: connections that a rule has just grown have a gradient as well."""
        grown, self._grown = self._grown, None
        if not self._recorded or self.weight.grad is None or grown is None or not grown.any():
            return
        computed, kept = self.gradient_at(self.active_positions()), ~grown
        square = computed[kept].square().sum()
        ratio = float((self.weight.grad[kept] * computed[kept]).sum() / square) if square > 0 else 1.0
        # What was done to the gradient since (AMP's scale taken off, a user's hook) holds for new connections, too.
        self.weight.grad[grown] = computed[grown] * (ratio if abs(ratio - 1) > _ROUNDING else 1.0)

    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """See the interface; on every process at once, because the blocks are averaged over them."""
        if not self._recorded:
            if _world_size() == 1:
                raise RuntimeError("no dense gradient: set record_dense_gradient before the backward pass")
            # The layer took no part on this process, but others wait for it.
            rows = len(range(*neurons.indices(self.n_out)))
            return _average(torch.zeros(rows, self.n_in, dtype=self.weight.dtype))
        first, *others = (g[neurons] @ x.T for x, g in self._recorded)
        for other in others:
            first += other
        return _average(first)

    def gradient_magnitude(self) -> Tensor:
        """See the interface."""
        if self.weight.grad is None:
            raise RuntimeError("no gradient yet: call it between the backward pass and the optimizer step")
        total = torch.zeros(self.out_features, dtype=self.weight.dtype)
        return total.index_add_(0, torch.from_numpy(self.structure.neurons), self.weight.grad.abs())

    def _note(self, x: Tensor, g: Tensor) -> None:
        """Keep what the dense gradient is made of: inputs and gradients, ``(n, columns)``, of a backward pass."""
        if self._records:
            if self.weight.grad is None:
                self._recorded = []  # the optimizer's step begins anew
            self._pending.append((torch._C._current_graph_task_id(), _untiled(x), _untiled(g)))

    @unserializable_hook  # type: ignore[untyped-decorator]
    def _commit(self, _: Tensor) -> None:
        """Hook of the weight: the gradient has reached it, so what this backward pass kept counts."""
        task = torch._C._current_graph_task_id()
        self._recorded += [(x, g) for number, x, g in self._pending if number == task]
        self._pending = []

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in csr_state(self.connectivity, self.active_values()).items():
            destination[prefix + name] = value
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        names = ["values", "indptr", "indices"] if prefix + "weight" not in state_dict else []
        absent = [prefix + name for name in names if prefix + name not in state_dict]
        bias, found = state_dict.get(prefix + "bias"), None
        try:
            if not absent:
                found = read_connections(state_dict, prefix, (self.n_out, self.n_in))
                found = found or self._of_dense(state_dict, prefix)
            if self.bias is not None and bias is not None and bias.shape != self.bias.shape:
                raise ValueError(f"a bias of shape {tuple(bias.shape)}, not {self.n_out} numbers")
        except ValueError as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")
            return
        missing_keys.extend(absent + ([prefix + "bias"] if self.bias is not None and bias is None else []))
        with torch.no_grad():
            if found is not None:
                self._replace(*found)
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def _of_dense(self, state_dict: dict[str, Any], prefix: str) -> Connections:
        """Weights of a dense Linear at the present connections."""
        weight = state_dict[prefix + "weight"]
        if weight.shape != (self.n_out, self.n_in):
            raise ValueError(f"weight of shape {tuple(weight.shape)}, not {(self.n_out, self.n_in)}")
        return Connections(self.connectivity, weight.flatten()[self.active_positions()])


class CSRNetwork:
    """What the modules of a network compute one after the other, in one go.

    Args:
        blocks: Each sparse layer and its LayerNorm, which a ReLU follows.
        output: The dense layer at the end; it goes along as one of which all connections exist.
    """

    def __init__(self, blocks: Sequence[tuple[CSRLinear, nn.LayerNorm]], output: nn.Linear) -> None:
        self._blocks, self._output = blocks, output
        self._whole = Structure(np.arange(output.weight.numel()), *output.weight.shape)
        self._known = self._connections()
        self._stack = Stack(self._stages())

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of ``(batch, n_in)``."""
        known = self._connections()
        if known != self._known:  # after a topology update
            self._known = known
            self._stack.connect(self._stages())
        parameters = [p for layer, norm in self._blocks for p in (layer.weight, layer.bias, norm.weight, norm.bias)]
        logits: Tensor = self._stack(x, [*parameters, self._output.weight, self._output.bias])
        return logits

    def _connections(self) -> list[tuple[Structure, float]]:
        return [(layer.structure, norm.eps) for layer, norm in self._blocks]

    def _stages(self) -> list[Stage]:
        return [*(layer.stage(norm) for layer, norm in self._blocks), Stage(self._whole)]


def _untiled(tiles: Tensor) -> Tensor:
    """A copy as one matrix, ``(n, n_tiles · width)``."""
    return torch.cat(list(tiles), dim=1)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _average(tensor: Tensor) -> Tensor:
    """Mean over the processes, in place."""
    if _world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= _world_size()
    return tensor
