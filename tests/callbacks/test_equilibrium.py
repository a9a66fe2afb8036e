"""The equilibrium is measured at every update, and judged at the end."""

import pytest

from psn_lightning.callbacks import EquilibriumMonitor, RigL, Sparsify, TopologyLogger
from psn_lightning.data import Digits
from psn_lightning.topology.equilibrium import settlement
from psn_lightning.tracking import MLflowLogger
from tests.callbacks.test_dynamic import model, trainer
from tests.helpers.models import batches, plain
from tests.helpers.models import trainer as plain_trainer


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


def test_another_module_has_trajectories_of_its_own():
    monitor = EquilibriumMonitor()
    for _ in range(2):
        methods = Sparsify(0.7, print_table=False), RigL(period=2, end=1.0)
        run = plain_trainer(*methods, monitor, max_steps=4, max_epochs=-1)
        run.fit(plain("transformer"), batches("transformer"))
    for trajectory in monitor.trajectories.values():
        assert trajectory.steps == sorted(set(trajectory.steps))
