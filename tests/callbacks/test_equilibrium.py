"""The equilibrium is measured at every update, and judged at the end."""

import pytest

from psn_lightning.callbacks import EquilibriumMonitor, RigL, TopologyLogger
from psn_lightning.data import Digits
from psn_lightning.topology.equilibrium import settlement
from psn_lightning.tracking import MLflowLogger
from tests.callbacks.test_dynamic import model, trainer


def test_the_ccv_of_every_update(workdir, client):
    monitor, task = EquilibriumMonitor(), model()
    loop = trainer(RigL(period=10, end=1.0), TopologyLogger(), monitor, logger=MLflowLogger(run_name="m"), max_steps=60)
    loop.fit(task, Digits(batch_size=64))
    for name, connectivity in task.network.connectivities().items():
        path = monitor.trajectories[name]
        assert path.steps == [0, 10, 20, 30, 40, 50]
        assert path.ccv[-1] == pytest.approx(connectivity.fan_in.std() / connectivity.fan_in.mean())
        assert path.contested[0] == pytest.approx(0.3, abs=0.01)
        assert path.contested == sorted(path.contested, reverse=True)
        history = client.get_metric_history(loop.logger.run_id, f"equilibrium/trajectory/{name}")
        assert [(m.step, m.value) for m in history] == list(zip(path.steps, path.ccv, strict=True))
        metrics = client.get_run(loop.logger.run_id).data.metrics
        verdict = settlement(path)
        assert metrics[f"equilibrium/ccv/{name}"] == verdict.ccv
        assert metrics[f"equilibrium/drift/{name}"] == verdict.drift
        assert metrics[f"equilibrium/converged/{name}"] == verdict.converged


def test_nothing_to_say_without_a_rule():
    monitor = EquilibriumMonitor()
    trainer(monitor, max_steps=5).fit(model(), Digits())
    assert monitor.trajectories == {}


def test_the_trajectory_is_in_the_checkpoint():
    monitor, other = EquilibriumMonitor(), EquilibriumMonitor()
    trainer(RigL(period=10), monitor).fit(model(), Digits())
    other.load_state_dict(monitor.state_dict())
    assert other.trajectories == monitor.trajectories != {}
