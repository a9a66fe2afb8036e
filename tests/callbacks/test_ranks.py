"""Strategies that shard weights are refused by any of their names; tests/test_ddp.py compares real processes."""

from types import SimpleNamespace

import pytest

from psn_lightning.callbacks.ranks import check_equal_connectivity, refuse_sharding
from psn_lightning.errors import SettingError


@pytest.mark.parametrize("strategy", ["fsdp", "FSDPStrategy", "deepspeed_stage_3", "ModelParallelStrategy"])
def test_sharding_strategies_are_refused(strategy):
    with pytest.raises(SettingError, match=strategy):
        refuse_sharding(strategy)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn", "SingleDeviceStrategy", "DDPStrategy"])
def test_others_are_accepted(strategy):
    refuse_sharding(strategy)


def test_a_single_process_compares_nothing():
    check_equal_connectivity(SimpleNamespace(world_size=1), None)
