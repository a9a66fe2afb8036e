"""Which tensors of an optimizer move with the weights."""

import pytest
import torch

from psn_lightning.dynamics import moments_of
from psn_lightning.errors import SettingError
from psn_lightning.topology import Connectivity
from tests.helpers.layers import STORAGES, random_linear, sparse_linear


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("n_connections", [0, 1, 2])
def test_moments_of_hardly_any_connections_are_moments(storage, n_connections):
    mask = torch.arange(6).view(2, 3) < n_connections
    linear = sparse_linear(Connectivity.from_mask(mask.numpy()), storage)
    optimizer = torch.optim.Adam(linear.module.parameters(), lr=0.1)
    linear(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    moments = moments_of(linear.view, optimizer)
    assert [moment.shape for moment in moments] == [linear.weight.shape] * 2
    assert sum(bool(moment.any()) for moment in moments) == (2 if n_connections else 0)


@pytest.mark.parametrize("storage", STORAGES)
def test_what_an_optimizer_keeps_by_row_and_column_stays_as_it_is(storage):
    linear = random_linear(storage=storage)
    optimizer = torch.optim.Adafactor(linear.module.parameters(), lr=0.1)
    linear(torch.ones(1, 13)).square().sum().backward()
    optimizer.step()
    state = {key: value.clone() for key, value in optimizer.state[linear.weight].items()}
    moments = moments_of(linear.view, optimizer)
    assert [moment.shape for moment in moments] == [linear.weight.shape] * (storage == "csr")
    linear.view.set_mask(~linear.view.mask, moments)
    if storage == "masked":
        assert all(torch.equal(optimizer.state[linear.weight][key], value) for key, value in state.items())


@pytest.mark.parametrize("shape", [(13, 13), (5,), (2, 11, 13)])
def test_what_belongs_to_nobody_knows_which_connection_is_refused(layer, shape):
    linear = layer()
    optimizer = torch.optim.SGD(linear.module.parameters(), lr=0.1)
    optimizer.state[linear.weight]["history"] = torch.zeros(shape)
    with pytest.raises(SettingError, match=r"SGD .*'history' .*\(11, 13\)"):
        moments_of(linear.view, optimizer)
