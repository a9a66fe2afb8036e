"""Export of a network to a file that is compared with it before it takes its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.export.folding import fold
from psn_lightning.export.formats import FORMATS, FormatName
from psn_lightning.files import atomically
from psn_lightning.nn.torch_private import list_leaves


@dataclass(frozen=True)
class Exported:
    """An exported network."""

    path: Path
    """File."""
    size: int
    """Size of the file, in bytes."""
    difference: float
    """Largest absolute difference of an output from the network's."""
    any_rows: bool
    """Whether it takes any number of rows, not only that of the example."""


def export_model(model: nn.Module, path: str | Path, format: FormatName, inputs: Tensor | Sequence[Tensor]) -> Exported:
    """Export a network, with its masks folded into the weights.

    The file is written beside its place, read again and compared with the network on the inputs, and then renamed.

    Args:
        model: Any module, sparse or dense, in any storage; it stays as it is.
        path: File; an existing one is replaced.
        format: ``pt2``: a program of ``torch.export``, which torch runs without the class of the model; ``onnx``;
            ``safetensors``: weights, of sparse ones the active connections only; ``dense``: a state dict of the model
            before it was sparse.
        inputs: Inputs of a forward pass, with the rows as the first dimension.

    Returns:
        What was written.

    Raises:
        SettingError: If a package is missing, the model cannot be exported, or the file computes something else.
        OSError: If the file cannot be written.
    """
    if format not in FORMATS:
        raise SettingError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    chosen, place = FORMATS[format], Path(path)
    for package in chosen.packages:
        if find_spec(package) is None:
            raise SettingError(f"format {format} needs {package}: pip install 'psn_lightning[export]'")
    try:
        model.train(model.training)
    except NotImplementedError as error:
        raise SettingError(
            "the model is a program of torch.export already, which has no evaluation mode: export the module that it "
            "was made of"
        ) from error
    rows = prepare_inputs(model, [inputs] if isinstance(inputs, Tensor) else inputs)
    folded, reference = fold(model), as_reference(model)
    with atomically(place) as scratch:
        chosen.write(model, folded, rows, scratch)
        network = chosen.read(folded, scratch)
        difference = compare(reference, network, rows, f"the {format} file")
        any_rows = True
        try:
            one_row = tuple(x[:1] if x.dim() else x for x in rows)
            difference = max(difference, compare(reference, network, one_row, f"the {format} file"))
        except SettingError:
            raise
        except Exception:  # of the program's guards, or onnxruntime's
            any_rows = False
    return Exported(place, place.stat().st_size, difference, any_rows)


def as_reference(model: nn.Module) -> Callable[..., Any]:
    """The network itself, as a function of inputs on the CPU: it evaluates in evaluation mode, and stays as it is.

    Args:
        model: Any module.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    def evaluate(*inputs: Tensor) -> Any:
        was_training = model.training
        try:
            return model.eval()(*(x.to(device) for x in inputs))
        finally:
            model.train(was_training)

    return evaluate


def prepare_inputs(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Inputs on the CPU, in the precision of the model; two rows for one, which ``torch.export`` takes as fixed.

    Raises:
        SettingError: If there are none.
    """
    if not inputs or not all(x.numel() for x in inputs):
        raise SettingError("inputs are empty: give those of a forward pass, with one row or more")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    rows = (x.detach().cpu().clone() for x in inputs)  # a program keeps its inputs, and with a view all that it views
    whole = (x.repeat_interleave(2, dim=0) if x.dim() and len(x) == 1 else x for x in rows)
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in whole)


@torch.no_grad()
def compare(expected: Callable[..., Any], found: Callable[..., Any], inputs: tuple[Tensor, ...], what: str) -> float:
    """Return the largest difference between the outputs of two networks.

    Args:
        expected: The network.
        found: The network as it was exported.
        inputs: Inputs of both.
        what: Name of the latter, the subject of the message.

    Raises:
        SettingError: If it is above rounding.
    """
    outputs = (
        [leaf.detach().cpu() for leaf in list_leaves(network(*inputs)) if isinstance(leaf, Tensor)]
        for network in (expected, found)
    )  # a format may leave out what is no tensor
    largest = 0.0
    for ours, theirs in zip(*outputs, strict=True):
        tolerance = math.sqrt(torch.finfo(ours.dtype).eps) / 10 if ours.is_floating_point() else 0.0
        difference = float((ours.double() - theirs.double()).abs().max()) if ours.numel() else 0.0
        scale = max(1.0, float(ours.double().abs().max())) if ours.numel() else 1.0
        if not difference <= tolerance * scale:
            raise SettingError(
                f"{what} computes something else than the network (largest difference {difference:.2g}), and was not "
                "kept: does the forward pass depend on random numbers, on values, or on the number of rows?"
            )
        largest = max(largest, difference)
    return largest
