"""Networks leave for the Hub and come back, by way of local folders; nothing here asks a server."""

import sys

import pytest
import torch
from torch import nn

from psn_lightning import (
    BlockSparse,
    Lognormal,
    Mixture,
    SparseClassifier,
    SparseMLP,
    Topology,
    sparse_layers,
    sparsify,
)
from psn_lightning.errors import SettingError
from psn_lightning.export import hub

FILES = {"README.md", "config.json", "model.safetensors"}


def trained(storage="masked", **settings):
    """A network whose connections no topology makes, with one active weight that is 0."""
    model = SparseMLP([16, 32, 24, 3], Topology(Lognormal(0.7), sparsity=0.8), storage=storage, **settings)
    for layer in model.sparse_layers().values():
        layer.set_values(layer.active_values() + 0.1)
        layer.set_values(layer.active_values().index_fill(0, torch.tensor([2]), 0))
    return model, torch.randn(5, 16)


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("into", ["auto", "masked", "csr"])
@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_a_network_comes_back_with_its_connections(storage, into, layer_norm, tmp_path):
    model, x = trained(storage, layer_norm=layer_norm)
    hub.HubMLP.copy_of(model).save_pretrained(tmp_path)
    loaded = hub.HubMLP.from_pretrained(tmp_path, storage=into)
    assert into in {"auto", loaded.storage}
    assert not loaded.training
    torch.testing.assert_close(loaded(x), model.eval()(x))
    for name, layer in model.sparse_layers().items():
        found = loaded.sparse_layers()[name]
        assert torch.equal(found.active_positions(), layer.active_positions())
        assert torch.equal(found.active_values(), layer.active_values())


@pytest.mark.parametrize(
    "topology", [Topology(sparsity=0.0), Topology(sparsity=0.99, above_ceiling="clamp"), Topology(BlockSparse(4), 0.75)]
)
def test_dense_very_sparse_and_grouped_networks(topology, tmp_path, recwarn):
    model, x = SparseMLP([16, 32, 4, 3], topology, storage="masked"), torch.randn(5, 16)
    recwarn.clear()
    exported = hub.export_to_hub(model, tmp_path / "net", x)
    assert exported.difference < 1e-6
    assert not recwarn


def test_the_folder_has_the_classifier_s_network_and_the_run_s_card(tmp_path):
    task, x = SparseClassifier(16, 3, [8, 8], sparsity=0.5, storage="csr", layer_norm=False), torch.randn(4, 16)
    run = hub.TrainedRun("RigL", "Digits", 1, 10)
    exported = hub.export_to_hub(task, tmp_path / "a" / "net", x, run)
    assert {path.name for path in exported.path.iterdir()} == FILES
    assert exported.size == sum(path.stat().st_size for path in exported.path.iterdir())
    assert [path.name for path in exported.path.parent.iterdir()] == ["net"]
    assert "| method | RigL |" in (exported.path / "README.md").read_text()
    assert task.training
    torch.testing.assert_close(hub.HubMLP.from_pretrained(exported.path)(x), task(x))


def test_what_is_pushed_is_the_folder_and_its_card(monkeypatch):
    pushed = {}

    class Server:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_):
            pushed[repo_id] = {path.name: path.read_bytes() for path in folder_path.iterdir()}

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Server)
    network = hub.HubMLP.copy_of(trained()[0])
    network.push_to_hub("me/net", model_card_kwargs={"run": hub.TrainedRun("SET", "Digits", 1, 10)})
    assert pushed["me/net"].keys() == FILES
    assert b"| method | SET |" in pushed["me/net"]["README.md"]


def test_a_network_of_the_hub_is_downloaded(tmp_path, monkeypatch):
    model, x = trained()
    hub.HubMLP.copy_of(model).save_pretrained(tmp_path)
    asked = []

    def download(repo_id, filename, **settings):
        asked.append((repo_id, filename, settings["revision"]))
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download", lambda repo_id, filename, **s: download(repo_id, filename, **s)
    )
    torch.testing.assert_close(hub.HubMLP.from_pretrained("me/net", revision="v1")(x), model.eval()(x))
    assert asked == [("me/net", "config.json", "v1"), ("me/net", "model.safetensors", "v1")]


class Mine(nn.Module, hub.PyTorchModelHubMixin):
    def __init__(self, width: int = 8):
        super().__init__()
        self.hidden, self.head = nn.Linear(16, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.hidden(x).relu())


class Unwritable(Mine):
    def __init__(self, activation):
        super().__init__()
        self.activation = activation


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_a_class_of_the_user_s_with_the_mixin(storage, tmp_path):
    model, x = Mine(width=12), torch.randn(4, 16)
    sparsify(model, 0.6, exclude=["head"], storage=storage)
    hub.export_to_hub(model, tmp_path / "net", x)
    loaded = Mine.from_pretrained(tmp_path / "net", strict=True)
    torch.testing.assert_close(loaded(x), model(x))
    assert sparse_layers(model)
    card = (tmp_path / "net" / "README.md").read_text()
    assert f"from {__name__} import Mine" in card
    assert "`hidden`" in card


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.Linear(16, 3), "Linear"),
        (lambda: SparseClassifier(16, 3, [8], sparsity=0.0, mixture=Mixture(4, 2, 4)), "MixtureMLP"),
        (lambda: Unwritable(nn.ReLU()), "Unwritable.from_pretrained"),
    ],
)
def test_other_models_are_refused(make, named, tmp_path):
    with pytest.raises(SettingError, match=named):
        hub.export_to_hub(make(), tmp_path / "net", torch.randn(4, 16))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    model, x = trained()
    monkeypatch.setattr(hub.HubMLP, "from_pretrained", lambda folder: hub.HubMLP([16, 32, 24, 3]))
    with pytest.raises(SettingError, match="something else"):
        hub.export_to_hub(model, tmp_path / "net", x)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path):
    model, x = trained()
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(SettingError, match="exists"):
        hub.export_to_hub(model, tmp_path, x)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_without_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "psn_lightning.export.hub")
    with pytest.raises(ImportError, match=r"psn_lightning\[hub\]"):
        __import__("psn_lightning.export.hub")


def test_the_number_type_is_kept(tmp_path):
    network = SparseMLP([6, 8, 3], Topology(sparsity=0.5)).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    hub.export_to_hub(network, tmp_path / "hub", x)
    found = hub.HubMLP.from_pretrained(tmp_path / "hub")
    torch.testing.assert_close(found(x), network(x))
