"""Networks in the layout of the Hugging Face Hub: a folder with weights, configuration and model card."""

from __future__ import annotations

import copy
import io
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.export.card import TAGS, TrainedRun, write_card
from psn_lightning.export.folding import check_memory
from psn_lightning.export.model import Exported, as_reference, compare, prepare_inputs
from psn_lightning.export.sparse_file import load_connections, save_sparse
from psn_lightning.nn import SparseMLP, StorageName, densify, describe
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Topology, Uniform

try:
    from huggingface_hub import ModelCard, ModelHubMixin, PyTorchModelHubMixin, hf_hub_download
    from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
except ImportError as error:
    raise ImportError(f"{__name__} needs {error.name}: pip install 'psn_lightning[hub]'", name=error.name) from error

__all__ = ["HubMLP", "TrainedRun", "export_to_hub"]


class HubMLP(SparseMLP, PyTorchModelHubMixin, library_name="psn_lightning", tags=[*TAGS]):
    """:class:`SparseMLP` with the methods of the Hugging Face Hub.

    ``save_pretrained(folder)`` writes ``model.safetensors`` with the active connections, ``config.json`` and a model
    card, unless the folder has one; ``push_to_hub("owner/name")`` uploads them; ``from_pretrained`` reads a folder or a
    repository, in evaluation mode, with the connections of the file. Further arguments of ``from_pretrained`` take the
    place of those below; ``model_card_kwargs={"run": TrainedRun(…)}`` of the others puts a run into the card.

    Args:
        layer_sizes: Number of inputs, hidden widths, number of classes.
        sparsity: Fraction of absent connections, which have uniform fan-in until others are loaded.
        layer_norm: Whether a LayerNorm follows each hidden layer.
        storage: Storage of sparse weights: masked, csr or auto.
    """

    def __init__(
        self, layer_sizes: list[int], sparsity: float = 0.9, layer_norm: bool = True, storage: StorageName = "auto"
    ) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*target sparsity")  # of uniform fan-in, before others are loaded
            design = Topology(Uniform(), sparsity, above_ceiling="clamp")
            super().__init__(layer_sizes, design, storage=storage, layer_norm=layer_norm)

    @classmethod
    def copy_of(cls, model: nn.Module) -> Self:
        """Copy a trained network.

        Args:
            model: A :class:`SparseMLP`, or the :class:`SparseClassifier` that has trained it.

        Raises:
            SettingError: If it is another network.
        """
        network = _network_of(model)
        if not isinstance(network, SparseMLP):
            raise SettingError(
                f"format hub writes SparseMLP, and classes with the base huggingface_hub.PyTorchModelHubMixin, which "
                f"{type(network).__name__} does not have: add it, or use another format"
            )
        linear = [module for module in network if hasattr(module, "in_features")]
        sizes = [int(linear[0].in_features), *(int(module.out_features) for module in linear)]  # type: ignore[arg-type]
        made = cls(sizes, describe(network).sparsity, isinstance(network[1], nn.LayerNorm))
        made.to(next(network.parameters()).dtype).load_state_dict(network.state_dict())
        return made.eval()

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Model card of the network.

        Args:
            args: No arguments.
            kwargs: ``run``: a :class:`TrainedRun`, if its training is known.
        """
        return ModelCard(write_card(self, type(self), *args, **kwargs))

    def _save_pretrained(self, save_directory: Path) -> None:
        save_sparse(self, save_directory / SAFETENSORS_SINGLE_FILE)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **settings: Any
    ) -> Self:
        remote = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        download = {name: settings.pop(name) for name in remote}
        path = Path(model_id) / SAFETENSORS_SINGLE_FILE
        if not Path(model_id).is_dir():
            path = Path(hf_hub_download(model_id, SAFETENSORS_SINGLE_FILE, **download))
        network, state = cls(**settings), load_connections(path)
        network.to(next(value.dtype for value in state.values() if value.is_floating_point()))
        network.load_state_dict(state, strict=strict)
        return network.to(map_location).eval()


def export_to_hub(
    model: nn.Module, folder: str | Path, inputs: Tensor | Sequence[Tensor], run: TrainedRun | None = None
) -> Exported:
    """Export a network as a folder that the Hub takes.

    The folder is written beside its place, read again and compared with the network on the inputs, and then renamed.

    Args:
        model: :class:`SparseMLP` or :class:`SparseClassifier`, which becomes a :class:`HubMLP`; or a model whose class
            has ``PyTorchModelHubMixin`` among its bases, sparse or dense, whose weights are written dense, with 0 at
            absent connections. It stays as it is.
        folder: Folder to make.
        inputs: Inputs of a forward pass, with the rows as the first dimension.
        run: Training of the network, for the model card.

    Returns:
        What was written.

    Raises:
        SettingError: If the folder exists, it is another model, or the folder computes something else.
        OSError: If the folder cannot be written.
    """
    place = Path(folder)
    if place.exists():
        raise SettingError(f"{place} exists: remove it, or give another folder")
    rows = prepare_inputs(model, [inputs] if isinstance(inputs, Tensor) else inputs)
    network, reference = _with_hub(model), as_reference(model)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        scratch.chmod(0o755)
        (scratch / "README.md").write_text(write_card(_network_of(model), type(network), run))
        with redirect_stdout(io.StringIO()):  # the mixin prints
            network.save_pretrained(scratch)
            loaded = _load(type(network), scratch)
        difference = compare(reference, loaded, rows, "the folder")
        scratch.replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    size = sum(path.stat().st_size for path in place.iterdir())
    return Exported(place, size, difference, any_rows=True)


def _network_of(model: nn.Module) -> nn.Module:
    return model.network if isinstance(model, SparseClassifier) else model


def _with_hub(model: nn.Module) -> Any:
    """A copy of the model that has the mixin's methods.

    Raises:
        SettingError: If it is neither one of ours, nor of a class with the mixin.
    """
    if not isinstance(model, ModelHubMixin):
        return HubMLP.copy_of(model)
    if isinstance(model, HubMLP):
        return model
    check_memory(model)
    dense = copy.deepcopy(model)
    densify(dense)
    return dense


def _load(kind: Any, folder: Path) -> nn.Module:
    """Read a folder.

    Raises:
        SettingError: If the class cannot be made with the configuration that the mixin has written.
    """
    try:
        loaded: nn.Module = kind.from_pretrained(folder)
    except Exception as error:  # of the user's class
        raise SettingError(
            f"{kind.__name__}.from_pretrained cannot read what save_pretrained wrote ({in_one_line(error)[:300]}): "
            "every argument of the class must have a default, or a value that JSON can hold"
        ) from error
    return loaded
