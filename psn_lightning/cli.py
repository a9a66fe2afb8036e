"""``psn-train``: fit, validate, test and predict on LightningCLI; topology and data beside them."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.distributed import DistNetworkError

from psn_lightning import __version__
from psn_lightning.commands import topology
from psn_lightning.commands.training import PSNCLI
from psn_lightning.errors import SettingError, compact, in_one_line

HELP = f"""psn-train {__version__}: Profiled Sparse Networks on PyTorch Lightning, tracked in MLflow

  psn-train fit --config conf/fashion_rigl.yaml     train; later --config files and --key value win
  psn-train fit --model my_code.MyModel --data …    the same for any LightningModule
  psn-train validate|test|predict --config … --ckpt_path …
  psn-train topology --config …                     fan-in table and figure, no training
  psn-train data [NAME …] [--download]              data sets on this machine
  psn-train sync                                    what runs logged while MLflow was away, sent there
  psn-train sweep --config …                        many runs: a search or a grid; the same command goes on
  psn-train compare [FILTER]                        runs as a table, mean ± std over seeds
  psn-train reproduce NAME | --list                 a table or figure of the paper, into results/runs.jsonl
  psn-train report                                  its tables, figures and claims beside ours

  psn-train fit --help                              every setting
  psn-train fit --config … --print_config           the resolved configuration
  --debug with any command shows the traceback of an error
"""

__all__ = ["entry_point", "main"]

_COMMANDS = {
    "data": ("commands.data", None),
    "sync": ("commands.sync", None),
    "compare": ("commands.compare", None),
    "sweep": ("sweeps.command", "sweeps"),
    "reproduce": ("paper.reproduce", "paper"),
    "report": ("paper.report.command", "paper"),
}
"""Commands beside training: the module whose ``run`` they are, and the extra that has what it needs."""

_TOLD = (ArgumentError, MisconfigurationException)  # errors whose message is meant for the user
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_STOPPED = 143  # what a shell reports of a process that SIGTERM ended


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows ``psn-train``.

    Returns:
        Exit code: 0; 2 after an error of the user's, which is told in a line or two on stderr; 143 where
        the run was asked to stop.
    """
    arguments = list(arguments)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        _dispatch(arguments)
    except SIGTERMException as stop:
        sys.stderr.write(f"psn-train: {stop.code or 'stopped'}\n")
        return _STOPPED
    except DistNetworkError:
        if debug:
            raise
        port = os.environ.get("MASTER_PORT", "that torch chose")
        sys.stderr.write(f"psn-train: MASTER_PORT {port} is in use, or nobody answers there: give another one\n")
        return 2
    except MemoryError as error:
        if debug:
            raise
        sys.stderr.write(f"psn-train: out of memory ({in_one_line(error)}): a smaller network or batch needs less\n")
        return 2
    except OSError as error:
        if debug or error.errno not in _OF_THE_DISK:
            raise
        sys.stderr.write(f"psn-train: {error.filename or 'a file'} cannot be written or read: {error.strerror}\n")
        return 2
    except (ValueError, *_TOLD) as error:
        told = SettingError.inside(error) or (error if isinstance(error, _TOLD) else None)
        if debug or told is None:
            raise
        sys.stderr.write(f"psn-train: {compact(told)}\n")
        return 2
    return 0


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(HELP)
    elif arguments[0] in _COMMANDS:
        _command(arguments[0])(arguments[1:])
    elif arguments[0] == "topology":
        cli = PSNCLI(arguments[1:], run=False)
        topology.show(cli.model, cli.trainer, cli.config["figure"])
    elif arguments[0] in PSNCLI.subcommands() or arguments[0].startswith("-"):
        PSNCLI(arguments)
    else:
        raise SettingError(f"{arguments[0]!r} is not a command; see psn-train --help")


def _command(name: str) -> Callable[[list[str]], None]:
    """The function of a command, imported now.

    Raises:
        SettingError: If a package that it needs is not installed.
    """
    module, extra = _COMMANDS[name]
    try:
        run: Callable[[list[str]], None] = importlib.import_module(f"psn_lightning.{module}").run
    except ModuleNotFoundError as error:
        if extra is None or str(error.name).startswith("psn_lightning"):
            raise
        raise SettingError(f"{name} needs {error.name}: pip install 'psn_lightning[{extra}]'") from error
    return run


def entry_point() -> None:
    """What the installed command calls."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    sys.path.append(str(Path.cwd()))  # classes of the user's own, by class_path
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # Lightning's own, on recent torch
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # a resumed run's own
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())
    sys.exit(main(sys.argv[1:]))
