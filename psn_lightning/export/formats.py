"""Formats of exported networks: how each is written, and how it is read again to be compared."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.export.folding import Forward
from psn_lightning.export.sparse_file import load_sparse, save_sparse

FormatName = Literal["pt2", "onnx", "safetensors", "dense"]
"""Name of a format of exported files."""
Inputs = tuple[Tensor, ...]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Format:
    """A format of exported networks."""

    suffix: str
    """Suffix of its files."""
    packages: tuple[str, ...]
    """Packages that writing needs beside torch, of the extra ``export``."""
    write: Callable[[nn.Module, Forward, Inputs, Path], None]
    """Writes a model, whose folded copy is the second argument."""
    read: Callable[[Forward, Path], Function]
    """Reads a file and returns the network as a function of the inputs."""


def trace(folded: Forward, inputs: Inputs) -> torch.export.ExportedProgram:
    """Export a folded model for any number of rows, where its forward pass allows that.

    Args:
        folded: Model.
        inputs: Inputs of a forward pass, with two rows or more.

    Raises:
        SettingError: If ``torch.export`` does not understand the forward pass.
    """
    rows = tuple({0: torch.export.Dim.AUTO} if x.dim() else None for x in inputs)
    try:
        with quiet():
            return torch.export.export(folded, inputs, dynamic_shapes={"inputs": rows}, strict=False)
    except Exception as error:  # torch raises errors of many types
        name = type(folded.module).__name__
        raise SettingError(
            f"torch.export does not understand the forward pass of {name} ({in_one_line(error)[:300]}): the formats "
            "safetensors and dense have the weights alone, and need no graph"
        ) from error


def _write_pt2(model: nn.Module, folded: Forward, inputs: Inputs, path: Path) -> None:
    with path.open("wb") as file:  # torch refuses some names of files
        torch.export.save(trace(folded, inputs), file)


def _read_pt2(folded: Forward, path: Path) -> Function:
    with path.open("rb") as file:
        program: Function = torch.export.load(file).module()
    return program


def _write_onnx(model: nn.Module, folded: Forward, inputs: Inputs, path: Path) -> None:
    traced = trace(folded, inputs)
    try:
        with quiet():
            program = torch.onnx.export(traced, dynamo=True, verbose=False)
            assert program is not None
            program.save(path, external_data=False)
    except OSError:
        raise
    except Exception as error:  # of torch.onnx, or of a file above 2 GB
        raise _no_onnx(error.__cause__ or error) from error


def _read_onnx(folded: Forward, path: Path) -> Function:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no public base class; it lacks bfloat16, for one
        raise _no_onnx(error) from error
    names = [given.name for given in session.get_inputs()]
    return lambda *inputs: [
        torch.from_numpy(output)
        for output in session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    ]


def _no_onnx(error: BaseException) -> SettingError:
    return SettingError(
        f"ONNX, or onnxruntime, cannot express the network ({in_one_line(error)[:300]}): use the format pt2, or change "
        "that part of the forward pass"
    )


def _write_sparse(model: nn.Module, folded: Forward, inputs: Inputs, path: Path) -> None:
    save_sparse(model, path)


def _read_sparse(folded: Forward, path: Path) -> Function:
    return _load_into(folded, load_sparse(path))


def _write_dense(model: nn.Module, folded: Forward, inputs: Inputs, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(folded.module.state_dict(), file)


def _read_dense(folded: Forward, path: Path) -> Function:
    return _load_into(folded, torch.load(path, weights_only=True))


def _load_into(folded: Forward, state: dict[str, Any]) -> Function:
    """Load weights into a copy whose own are wiped out first."""
    empty = copy.deepcopy(folded)
    with torch.no_grad():
        for parameter in empty.parameters():
            parameter.fill_(float("nan"))
    empty.module.load_state_dict(state)
    return empty


@contextmanager
def quiet(*packages: str) -> Iterator[None]:
    """Context without the advice and the progress of torch's exporters, which log tracebacks of what they raise.

    Args:
        packages: Packages that are to log nothing either.
    """
    names = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", *packages)
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


FORMATS: dict[FormatName, Format] = {
    "pt2": Format(".pt2", (), _write_pt2, _read_pt2),
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "safetensors": Format(".safetensors", ("safetensors",), _write_sparse, _read_sparse),
    "dense": Format(".pt", (), _write_dense, _read_dense),
}
"""Formats by name."""
