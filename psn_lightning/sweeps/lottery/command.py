"""``psn-train lottery``: iterative magnitude pruning with rewinding, resumable."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console

from psn_lightning.commands.summary import ui_command
from psn_lightning.sweeps.lottery.display import print_table
from psn_lightning.sweeps.lottery.driver import Driver, Stopped
from psn_lightning.sweeps.lottery.files import LotteryFiles
from psn_lightning.sweeps.lottery.parent import LotteryRun
from psn_lightning.sweeps.lottery.settings import configuration, parse
from psn_lightning.tracking.store import Store


def run(arguments: Sequence[str]) -> None:
    """Run a lottery to its end, or go on with it.

    Args:
        arguments: Command line after ``psn-train lottery``.

    Raises:
        SettingError: If a setting cannot work, or the processes of a level died too often.
        SIGTERMException: If the lottery was stopped.
    """
    lottery, others = parse(arguments)
    config = configuration(others)
    with LotteryFiles(lottery.name).lock(), LotteryRun(lottery, config) as parent:
        try:
            results = Driver(lottery, config, parent.id, parent.refresh).run()
        except Stopped as stopped:
            raise SIGTERMException(f"stopped; the same command goes on with {stopped}") from None
    print_table(results)
    store = Store(config["tracking"]["uri"])
    Console().print(
        f"MLflow run {parent.id}; compare runs with: {ui_command(store.shown)}", highlight=False, soft_wrap=True
    )
