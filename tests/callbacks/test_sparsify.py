"""The callback that makes a LightningModule sparse."""

import os

import pytest
import torch

from psn_lightning import LayerSettings, MaskReapply, RigL, Sparsify, sparse_layers
from psn_lightning.errors import SettingError
from tests.helpers.models import batches, plain, trainer


def fit(module, *callbacks, **arguments):
    run = trainer(*callbacks, **{"max_steps": 2, **arguments})
    run.fit(module, batches("transformer"))
    return run


@pytest.mark.parametrize("order", [1, -1])
def test_it_acts_before_the_optimizer_and_the_rule_wherever_it_stands(order):
    module, sparse = plain("transformer", optimizer=lambda m: torch.optim.Adam(m.parameters())), Sparsify(0.7)
    run = fit(module, *[RigL(period=1, end=1.0), sparse, MaskReapply()][::order])
    held = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert all(id(layer.parameter) in held for layer in sparse_layers(module).values())
    assert sparse.table.sparsity == pytest.approx(0.7, abs=1e-3)


def test_it_takes_the_settings_of_sparsify():
    module = plain("transformer")
    overrides = {"net.encoder.layers.0.*": LayerSettings(0.5)}
    fit(
        module, Sparsify(0.8, include=["net.encoder.*"], exclude=["*.out_proj"], overrides=overrides, print_table=False)
    )
    layers = sparse_layers(module)
    assert len(layers) == 6
    assert layers["net.encoder.layers.0.linear1"].connectivity.n_connections == 256


def test_auto_is_masked_where_csr_cannot_compute():
    module = plain("transformer", optimizer=lambda m: torch.optim.Adam(m.parameters()))
    fit(module, Sparsify(0.7, storage="auto", print_table=False), precision="bf16-mixed")
    assert {layer.storage for layer in sparse_layers(module).values()} == {"masked"}
    with pytest.raises(SettingError, match=r"storage csr .*bf16-mixed"):
        fit(plain("transformer"), Sparsify(0.7, storage="csr", print_table=False), precision="bf16-mixed")


def test_a_module_that_is_sparse_already_is_refused():
    module = plain("transformer")
    fit(module, Sparsify(0.7, print_table=False))
    with pytest.raises(SettingError, match="Plain is sparse"):
        fit(module, Sparsify(0.7, print_table=False))


def test_strategies_that_cut_weights_are_refused(monkeypatch):
    from lightning.pytorch.strategies import SingleDeviceStrategy

    class FakeFSDPStrategy(SingleDeviceStrategy):
        pass

    for callbacks in ([Sparsify(0.7)], [RigL()]):
        with pytest.raises(SettingError, match="FakeFSDPStrategy"):
            fit(plain("transformer"), *callbacks, strategy=FakeFSDPStrategy("cpu"))


def test_the_seed_is_the_arguments_or_that_of_seed_everything(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    positions = []
    for seed in (None, 5, 6):
        module = plain("transformer")
        fit(module, Sparsify(0.7, seed=seed, print_table=False))
        positions.append(sparse_layers(module)["net.head"].active_positions())
    assert os.environ["PL_GLOBAL_SEED"] == "5"
    assert torch.equal(positions[0], positions[1])


def test_one_callback_makes_every_module_sparse_and_leaves_a_trained_one():
    sparse, modules = Sparsify(0.7, print_table=False), [plain("transformer"), plain("transformer")]
    for module in modules:
        fit(module, sparse)
        assert len(sparse_layers(module)) == 9
    before = sparse_layers(modules[1])["net.head"].active_positions()
    trainer(Sparsify(0.5, print_table=False)).validate(modules[1], batches("transformer"), verbose=False)
    assert torch.equal(sparse_layers(modules[1])["net.head"].active_positions(), before)


def test_a_layer_that_is_unfrozen_during_the_fit_is_masked():
    class Thawed(type(plain("transformer"))):
        def on_train_epoch_start(self):
            self.net.encoder.requires_grad_(self.current_epoch > 0)

    module = Thawed(plain("transformer").net, lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
    module.net.encoder.requires_grad_(False)
    fit(module, Sparsify(0.7, print_table=False), max_steps=-1, max_epochs=2)
    for layer in sparse_layers(module).values():
        assert not layer.parameter[~layer.mask.view(layer.parameter.shape)].any()


def test_a_copy_of_the_dense_model_is_refused():
    from lightning.pytorch.callbacks import EMAWeightAveraging

    with pytest.raises(SettingError, match="EMAWeightAveraging"):
        fit(plain("transformer"), EMAWeightAveraging(), Sparsify(0.7, print_table=False))


def test_static_masks_hold_under_an_optimizer_that_mixes_weights():
    """Muon's steps are dense whatever the gradient is."""
    module = plain("transformer")
    module.make_optimizer = lambda m: torch.optim.Muon([p for p in m.parameters() if p.dim() == 2], lr=0.01)
    fit(module, Sparsify(0.7, print_table=False))
    for layer in sparse_layers(module).values():
        assert not layer.parameter[~layer.mask.view(layer.parameter.shape)].any()
