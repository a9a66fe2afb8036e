"""A GPU that is not there: numbers computed on the CPU, CUDA's rules about devices, and a list of the waits.

Within ``with PretendedGpu() as gpu:``, ``.to("cuda")`` makes tensors that say they are on cuda:0. An operation that
mixes them with tensors of the CPU raises as CUDA would, and so do ``numpy()``, ``data_ptr()`` and a generator of the
CPU. Every operation for which the host would wait for the device is noted, with the phase of the run and the line that
asked for it. It finds mixed devices and waits; it proves nothing about speed, kernels or NCCL.
"""

import collections
import sys
import traceback
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_WAITS = {  # the host needs a number, or a size that depends on numbers
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique2",
    "_unique",
    "unique_consecutive",
    "bincount",
    "equal",
    "is_nonzero",
    "nonzero_numpy",
    "histogram",
    "masked_scatter_backward",
    "repeat_interleave",
}
_WRITES = {"index_put", "index_put_", "_index_put_impl_"}
_MAY_MIX = {"copy_", "_to_copy", "index", "_foreach_copy_", *_WRITES}
_TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
_WRONG_GENERATOR = "Expected a 'cuda' device type for generator but found 'cpu'"


def is_cuda(device):
    """Whether something names the pretended device."""
    return device is not None and torch.device(device).type == "cuda"


class GpuTensor(torch.Tensor):
    """Tensor that says it is on cuda:0; ``inner`` has its numbers on the CPU."""

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_CPU,
            requires_grad=False,
        )
        made.inner = inner
        return made

    def __repr__(self):
        return f"GpuTensor({self.inner!r})"

    def __reduce_ex__(self, protocol):
        return GpuTensor, (self.inner.detach(),)

    def __deepcopy__(self, memo):
        copied = GpuTensor(self.inner.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copied, self.requires_grad)
        return copied.requires_grad_(self.requires_grad)

    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(tensors, meta, size, stride):
        return GpuTensor(tensors["inner"])

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        gpu = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
        cpu = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
        _check_devices(name, args, gpu, cpu)
        generator = kwargs.get("generator")
        if gpu and generator is not None and generator.device.type == "cpu":
            raise RuntimeError(_WRONG_GENERATOR)
        if PretendedGpu.current is not None:
            PretendedGpu.current.note_operation(name, args, gpu, cpu)
        if is_cuda(kwargs.get("device")):
            kwargs["device"] = _CPU
        found = function(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
        if name == "_local_scalar_dense":
            return found
        if name in {"copy_", *_WRITES} and args and not isinstance(args[0], GpuTensor) and name.endswith("_"):
            return args[0]  # written in place, on the CPU
        known = {id(tensor.inner): tensor for tensor in gpu}
        return tree_map(lambda leaf: _wrap(leaf, known), found)


def _check_devices(name, args, gpu, cpu):
    """Raise where CUDA would; scalars of the CPU may be mixed with anything."""
    if gpu and name not in _MAY_MIX and any(tensor.dim() > 0 for tensor in cpu):
        raise RuntimeError(f"{_TWO_DEVICES} ({name})")
    if name in {"index", *_WRITES}:
        if not isinstance(args[0], GpuTensor) and any(isinstance(index, GpuTensor) for index in args[1]):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        values = args[2] if name in _WRITES else None
        scalar = not isinstance(values, torch.Tensor) or values.dim() == 0
        if not scalar and isinstance(args[0], GpuTensor) != isinstance(values, GpuTensor):
            raise RuntimeError(f"{_TWO_DEVICES} ({name}: tensor and values)")


def _unwrap(leaf):
    return leaf.inner if isinstance(leaf, GpuTensor) else leaf


def _wrap(leaf, known):
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return known[id(leaf)] if id(leaf) in known else GpuTensor(leaf)


_GROUP = "_group_tensors_by_device_and_dtype"
_optimizers = sys.modules["torch.optim.optimizer"]  # torch.optim deletes the name
_group = getattr(_optimizers, _GROUP)


def _group_by_device(lists, *arguments):
    """Group tensors as an optimizer does before a fused step; C++ sees the CPU behind the pretended device."""
    groups = _group(lists, *arguments)
    pretended = any(isinstance(tensor, GpuTensor) for tensor in lists[0])
    return {(CUDA if pretended else device, dtype): group for (device, dtype), group in groups.items()}


_apply = torch.nn.Module._apply


def _move_module(module, function, recurse=True):
    """Move or convert a module by new parameters: torch swaps those of tensor subclasses, which references prevent."""
    weights = list(module.parameters())
    if not any(isinstance(weight, GpuTensor) for weight in (*weights, *(function(w.detach()) for w in weights[:1]))):
        return _apply(module, function, recurse)
    moved = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                new = torch.nn.Parameter(function(weight.detach()), weight.requires_grad)
                part._parameters[name] = moved.setdefault(id(weight), new)
        part._buffers |= {name: function(buffer) for name, buffer in part._buffers.items() if buffer is not None}
    return module


def to_cpu(value):
    """What ``torch.load(…, map_location="cpu")`` makes of a checkpoint."""
    if isinstance(value, GpuTensor):
        return value.inner
    if isinstance(value, dict):
        return type(value)((key, to_cpu(entry)) for key, entry in value.items())
    return type(value)(map(to_cpu, value)) if isinstance(value, list | tuple) else value


class PretendedGpu(TorchFunctionMode):
    """The pretence, as a context. ``phase`` names what the run does; ``events`` has (phase, wait, line)."""

    current = None

    def __init__(self):
        super().__init__()
        self.events = []
        self.phase = "outside"
        self._patches = [
            mock.patch.object(_optimizers, _GROUP, _group_by_device),
            mock.patch.object(torch.nn.Module, "_apply", _move_module),
        ]

    def __enter__(self):
        PretendedGpu.current = self
        for patch in self._patches:
            patch.start()
        return super().__enter__()

    def __exit__(self, *error):
        PretendedGpu.current = None
        for patch in self._patches:
            patch.stop()
        return super().__exit__(*error)

    def waits(self, *phases):
        """Waits of some phases, those of copies that need not wait left out, with their number."""
        found = [event for event in self.events if event[0] in phases and "non_blocking" not in event[1]]
        return collections.Counter(found)

    def note(self, wait):
        """Note a wait, with the last line of this package and the last line outside of torch."""
        stack = traceback.extract_stack(limit=60)
        outside = [f for f in stack if "/site-packages/torch/" not in f.filename and "pretended_gpu" not in f.filename]
        own = [frame for frame in outside if "psn_lightning/" in frame.filename] or outside
        lines = dict.fromkeys(f"{f.filename.split('site-packages/')[-1]}:{f.lineno}" for f in (own[-1], outside[-1]))
        self.events.append((self.phase, wait, " → ".join(lines)))

    def note_operation(self, name, args, gpu, cpu):
        """Note an operation that waits."""
        if name in _WAITS:
            self.note(name)
        elif name in {"index", *_WRITES}:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.note(f"{name} with a mask")
            elif gpu and any(not isinstance(index, GpuTensor) for index in indices):
                self.note(f"{name} with indices on the CPU")
        elif name == "copy_" and gpu and cpu:
            self.note("copy_ between host and device")

    def upload(self, tensor, non_blocking=False):
        """Copy to the device."""
        if isinstance(tensor, GpuTensor):
            return tensor
        self.note("host to device, non_blocking" if non_blocking else "host to device")
        return GpuTensor(tensor.detach().clone())

    def download(self, tensor):
        """Copy to the host."""
        self.note("device to host")
        return tensor.inner.detach().clone()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", str(function))
        first = args[0] if args else None
        if name == "to" and isinstance(first, torch.Tensor):
            return self._to(function, first, args[1:], kwargs)
        if isinstance(first, GpuTensor):
            if name == "cpu":
                return self.download(first)
            if name in {"numpy", "__array__"}:
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name == "data_ptr":
                raise RuntimeError("an address on the GPU")
            if name == "tolist":
                self.note("tolist")
                return first.inner.tolist()
            if name == "element_size":
                return first.inner.element_size()
            if function == torch.Tensor.data.__set__:
                first.inner = args[1].inner
        if is_cuda(kwargs.get("device")):
            return self._make(function, name, args, kwargs)
        return function(*args, **kwargs)

    def _to(self, function, tensor, args, kwargs):
        device, dtype = kwargs.get("device"), kwargs.get("dtype")
        for argument in (*args, kwargs.get("other")):
            if isinstance(argument, torch.Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, torch.dtype):
                dtype = argument
            elif isinstance(argument, torch.device | str):
                device = torch.device(argument)
        found = tensor
        if is_cuda(device):
            found = self.upload(tensor, kwargs.get("non_blocking", False))
        elif device is not None and isinstance(tensor, GpuTensor):
            found = self.download(tensor)
        if dtype is not None and found.dtype != dtype:
            return function(found, dtype)
        return found.clone() if kwargs.get("copy") and found is tensor else found

    def _make(self, function, name, args, kwargs):
        """Call a function that makes a tensor on the device."""
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            raise RuntimeError(_WRONG_GENERATOR)
        found = function(*args, **{**kwargs, "device": _CPU})
        if name in {"tensor", "as_tensor"}:
            self.note("host to device, torch.tensor")
        return found if isinstance(found, GpuTensor) else GpuTensor(found)
