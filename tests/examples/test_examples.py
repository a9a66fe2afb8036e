"""The examples: ordinary modules, and configurations that make them sparse."""

import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import examples
from benchmarks.examples import make, run
from examples.chars import ASCII, CharData, CharTransformer
from examples.data import MEAN, STD, FashionImages
from examples.resnet import SmallResNet
from examples.vit import SmallViT
from psn_lightning.callbacks import MaskReapply, RigL, Sparsify
from psn_lightning.cli import main
from psn_lightning.nn import sparse_layers
from tests.conftest import CONF, QUIET, only_run
from tests.data.making import write_idx

FILES = sorted(path for path in Path(examples.__file__).parent.glob("*.py") if path.stem != "moe")  # of our layers
CONFIGS = sorted((CONF / "examples").glob("*.yaml"))
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def images():
    return TensorDataset(torch.randn(48, 1, 28, 28), torch.randint(0, 10, (48,)))


def text():
    rows = torch.randint(0, ASCII, (48, 17))
    return TensorDataset(rows[:, :-1], rows[:, 1:])


MODELS = {
    "resnet": (lambda: SmallResNet((8, 16)), images),
    "vit": (lambda: SmallViT(7, 16, 2, 2), images),
    "chars": (lambda: CharTransformer(16, 16, 2, 2), text),
}


def few_steps(*callbacks):
    return pl.Trainer(
        max_steps=6,
        accelerator="cpu",
        limit_val_batches=1,
        limit_test_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


@pytest.fixture
def fashion(tmp_path):
    write_idx(tmp_path / "FashionMNIST" / "raw", IDX, n=(60, 20))
    return str(tmp_path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_knows_nothing_of_sparsity(path):
    source = path.read_text()
    assert not re.search("psn_lightning|sparsif|mask_|prune", source)
    packages = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    standard = {"__future__", "collections", "functools", "itertools", "math", "os", "pathlib"}
    assert packages <= standard | {"torch", "lightning", "torchvision"}


@pytest.mark.parametrize("name", MODELS)
def test_a_few_steps_of_rigl_keep_every_count(name):
    new_model, new_rows = MODELS[name]
    model, loader = new_model(), DataLoader(new_rows(), 16)
    dense_keys = set(model.state_dict())
    sparsify = Sparsify(0.8, exclude=["head"], print_table=False)
    trainer = few_steps(sparsify, RigL(period=2), MaskReapply())
    trainer.fit(model, loader, loader)
    trainer.test(model, loader, verbose=False)

    layers = sparse_layers(model)
    assert {key: layer.connectivity.n_connections for key, layer in layers.items()} == {
        row.name: row.connections for row in sparsify.table
    }
    positions = sum(row.positions for row in sparsify.table)
    assert sum(row.connections for row in sparsify.table) == round((1 - 0.8) * positions)
    assert "head" not in layers
    parameters = {id(parameter): key for key, parameter in model.named_parameters()}
    for layer in layers.values():
        assert not layer.parameter.detach().flatten(1)[~layer.mask].any()
    assert set(model.state_dict()) == dense_keys | {f"{parameters[id(la.parameter)]}_mask" for la in layers.values()}
    metrics = trainer.callback_metrics
    assert {"test/loss", "test/bits_per_character" if name == "chars" else "test/accuracy"} <= set(metrics)
    assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("name", MODELS)
def test_rigl_moves_connections(name):
    new_model, new_rows = MODELS[name]
    model = new_model()
    masks = {}

    class Keep(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            masks.update({key: layer.mask.clone() for key, layer in sparse_layers(pl_module).items()})

    few_steps(Sparsify(0.8, print_table=False), RigL(period=2), MaskReapply(), Keep()).fit(
        model, DataLoader(new_rows(), 16), DataLoader(new_rows(), 16)
    )
    assert any((layer.mask != masks[key]).any() for key, layer in sparse_layers(model).items())


def test_no_character_sees_a_later_one():
    model = CharTransformer(16, 16, 2, 2).eval()
    x = torch.randint(0, ASCII, (2, 16))
    changed = x.clone()
    changed[:, 9] = (x[:, 9] + 1) % ASCII
    with torch.no_grad():
        before, after = model(x), model(changed)
    assert torch.allclose(before[:, :9], after[:, :9], atol=1e-6)
    assert not torch.allclose(before[:, 9:], after[:, 9:], atol=1e-3)


def test_characters():
    data = CharData(context=64, batch_size=8)
    data.setup("fit")
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == y.shape == (8, 64)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert int(x.max()) < ASCII
    sizes = {part: len(rows) for part, rows in data.rows.items()}
    assert sizes["train"] > 300_000 / 64
    assert min(sizes["val"], sizes["test"]) > 100
    source = "".join(chr(i) for row in data.rows["val"].tensors[0] for i in row.tolist())
    assert source.startswith('"""Record of phased-in incompatible language changes.')  # __future__, the first file


def test_images(fashion):
    data = FashionImages(fashion, batch_size=16, val_rows=20)
    data.prepare_data()
    data.setup("fit")
    assert {part: len(rows) for part, rows in data.rows.items()} == {"train": 40, "val": 20, "test": 20}
    assert [x.shape for x, _ in data.train_dataloader()] == [(16, 1, 28, 28)] * 2
    ((x, y),) = data.test_dataloader()
    assert x.shape == (20, 1, 28, 28)
    assert y.dtype == torch.long
    assert float((x * STD + MEAN).min()) == pytest.approx(0, abs=1e-6)
    assert float((x * STD + MEAN).max()) == pytest.approx(1, abs=1e-6)


def test_images_are_split_without_overlap_and_always_alike(fashion):
    first, second = FashionImages(fashion, val_rows=20), FashionImages(fashion, val_rows=20)
    for data in (first, second):
        data.setup("fit")
    assert first.rows["val"].indices == second.rows["val"].indices
    assert sorted([*first.rows["train"].indices, *first.rows["val"].indices]) == list(range(60))


def test_images_are_found_in_the_folder_of_the_environment(fashion, monkeypatch):
    monkeypatch.setenv("PSN_DATA_DIR", fashion)
    data = FashionImages(val_rows=20)
    data.setup("fit")
    assert len(data.rows["test"]) == 20


def test_every_model_has_a_configuration():
    assert [path.stem for path in CONFIGS] == sorted([*MODELS, "moe"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_is_explained(path):
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line, f"{path.name}: {line}"


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_shows_every_default_and_can_be_made(name):
    example = make(name)
    assert [type(callback) for callback in example.callbacks] == [Sparsify, RigL]
    default = type(example.model)()
    assert [p.shape for p in example.model.parameters()] == [p.shape for p in default.parameters()]
    assert (example.model.lr, example.model.weight_decay) == (default.lr, default.weight_decay)
    for key, value in vars(type(example.data)()).items():
        if isinstance(value, int | str):
            assert getattr(example.data, key) == value


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_runs_for_a_few_steps(name, fashion, client, monkeypatch):
    monkeypatch.setenv("PSN_DATA_DIR", fashion)
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    few += ["--trainer.accelerator=cpu", "--data.init_args.batch_size=8"]
    few += [] if name == "chars" else ["--data.init_args.val_rows=20"]
    few += ["--model.init_args.widths=[8,16,32]"] if name == "resnet" else ["--model.init_args.width=32"]
    assert main(["fit", "--config", str(CONF / "examples" / f"{name}.yaml"), *QUIET, *few]) == 0
    run = only_run(client)
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"example_{name}")
    assert run.data.metrics["sparsity/realised"] == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize("kind", ["dense", "static", "rigl"])
def test_the_benchmark(kind):
    few = {f"limit_{part}_batches": 2 for part in ("train", "val", "test")}
    line = run("chars", kind, seed=1, epochs=1, accelerator="cpu", **few)
    assert line["steps"] == 2
    assert line["sparsity"] == (0.0 if kind == "dense" else pytest.approx(0.9, abs=1e-4))
    assert (line["ccv"] == line["ccv_at_start"]) == (kind != "rigl")
    assert {"val/loss", "test/bits_per_character"} <= set(line)
    assert line["seconds_per_step"] > 0
