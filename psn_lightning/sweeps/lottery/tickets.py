"""Tickets of a lottery as files: made of the results of the level before, once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.checkpoints import DurableIO, make_ticket, redraw_ticket, shuffle_ticket
from psn_lightning.commands.training import PSNCLI
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles
from psn_lightning.sweeps.lottery.settings import Lottery

_SEEDS = 2**32


def prepare_ticket(lottery: Lottery, config: dict[str, Any], level: Level) -> Path:
    """Make the ticket of a level, unless it is there.

    Args:
        lottery: Settings of the lottery.
        config: Complete configuration of the fits.
        level: Level above 0; the one before is finished.

    Returns:
        File of the ticket.

    Raises:
        SettingError: If a checkpoint is missing, or the network cannot be pruned so.
    """
    files, safe = LotteryFiles(lottery.name), config["weights_only"] is not False
    path = files.ticket(level)
    if path.exists():
        return path
    rewind = load(files.rewind, safe)
    if level.control is None:
        before = files.read_result(Level(level.number - 1), lottery.metric)
        assert before is not None, "levels are fitted in order"
        trained = load(Path(before.checkpoint), safe)
        ticket = make_ticket(rewind, trained, lottery.share, lottery.levels_at_once, lottery.scope, lottery.rewind_to)
    elif level.control == "redraw":
        ticket = redraw_ticket(load(files.ticket(level.ticket), safe), _draw_network(config))
    else:
        seed = config["seed_everything"] * _SEEDS + level.number
        ticket = shuffle_ticket(load(files.ticket(level.ticket), safe), rewind, seed)
    DurableIO().save_checkpoint(ticket, path)
    return path


def load(path: Path, weights_only: bool) -> dict[str, Any]:
    """Load a checkpoint of a lottery on the CPU.

    Raises:
        SettingError: If it is not there.
    """
    if not path.is_file():
        raise SettingError(
            f"checkpoint {path} of the lottery is missing: put it back, or start again under another name"
        )
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=weights_only)
    return checkpoint


def _draw_network(config: dict[str, Any]) -> dict[str, Any]:
    """Initialise the configured network with another seed, and return its state dict."""
    seed = (config["seed_everything"] + _SEEDS // 2) % _SEEDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump({**config, "seed_everything": seed}))
        cli = PSNCLI(["--config", str(path)], run=False)
    sparsify_first(cli.trainer, cli.model)
    state_dict: dict[str, Any] = cli.model.state_dict()
    return state_dict
