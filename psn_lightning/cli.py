"""``psn-train``: a dict from command to function; nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from psn_lightning import __version__
from psn_lightning.commands.config_files import locate_configs
from psn_lightning.errors import SettingError

HELP = f"""psn-train {__version__}: sparse training on PyTorch Lightning, tracked in MLflow

  psn-train demo                                    RigL at 90% sparsity on scikit-learn's digits: seconds
  psn-train init [DIR]                              folder to work in: configurations, a starter model, a README
  psn-train configs                                 configurations that come with the package
  psn-train fit --config fashion_rigl               train; later --config names or files, and --key value, win
  psn-train fit --model my_code.MyModel --data …    the same for any LightningModule
  psn-train validate|test|predict --config … --ckpt_path …
  psn-train export CKPT --format pt2|onnx|safetensors|dense|hub   the network as a file
  psn-train topology --config …                     fan-in table and figure, no training
  psn-train data [NAME …] [--download]              data sets on this machine
  psn-train sync                                    send to MLflow what was queued while it was away
  psn-train sweep --config …                        many runs: a search or a grid; the same command goes on
  psn-train lottery --name … --config …             lottery ticket: prune, rewind, train; the same command goes on
  psn-train compare [FILTER]                        runs as a table, mean ± std over seeds
  psn-train bench [--quick]                         how fast this machine is: layers, steps, updates, epochs
  psn-train reproduce NAME | --list                 a table or figure of the paper, into results/runs.jsonl
  psn-train report                                  the paper's tables, figures and claims beside ours

  psn-train fit --help                              every setting
  psn-train fit --config … --print_config           the resolved configuration
  psn-train --version
  --debug with any command shows the traceback of an error
"""

COMMANDS = {
    "demo": ("commands.training:demo", None),
    "init": ("commands.init:run", None),
    "configs": ("commands.configs:run", None),
    "fit": ("commands.training:fit", None),
    "validate": ("commands.training:validate", None),
    "test": ("commands.training:test", None),
    "predict": ("commands.training:predict", None),
    "export": ("commands.export:run", None),
    "topology": ("commands.training:topology", None),
    "data": ("commands.data:run", None),
    "sync": ("commands.sync:run", None),
    "compare": ("commands.compare:run", None),
    "bench": ("bench.command:run", "csr"),
    "sweep": ("sweeps.command:run", "sweeps"),
    "lottery": ("sweeps.lottery.command:run", "sweeps"),
    "reproduce": ("paper.reproduce:run", "paper"),
    "report": ("paper.report.command:run", "paper"),
}
"""Name of a command → its function, which takes the arguments after the name, and the extra that it needs."""


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: Command line after ``psn-train``.

    Returns:
        Exit code: 0; 2 after an error that is the user's to mend, with a short message on stderr; 143 if the run was
        asked to stop.
    """
    debug = "--debug" in arguments
    name, *rest = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    if name in {"-h", "--help"}:
        sys.stdout.write(HELP)
        return 0
    if name == "--version":
        sys.stdout.write(f"psn-train {__version__}\n")
        return 0
    try:
        command = _find_command(name)
        command(locate_configs(rest))
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # Lightning's stop is a SystemExit
        from psn_lightning.commands.exit_codes import report_error  # imports torch

        code = report_error(error, debug)
        if code is None:
            raise
        return code
    return 0


def _find_command(name: str) -> Callable[[list[str]], None]:
    """Function of a command.

    Raises:
        SettingError: If the command is unknown, or a package that it needs is not installed.
    """
    if name not in COMMANDS:
        raise SettingError(f"{name!r} is not a command; see psn-train --help")
    path, extra = COMMANDS[name]
    module, _, function = path.partition(":")
    gc.disable()  # nothing that imports make is garbage: looking for some takes a quarter of their time
    try:
        found: Callable[[list[str]], None] = getattr(importlib.import_module(f"psn_lightning.{module}"), function)
    except ModuleNotFoundError as error:
        if extra is None or str(error.name).startswith("psn_lightning"):
            raise
        raise SettingError(f"{name} needs {error.name}: pip install 'psn_lightning[{extra}]'") from error
    finally:
        gc.freeze()
        gc.enable()
    return found


def entry_point() -> None:
    """Run ``psn-train`` and exit."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the sender retries
    sys.path.append(str(Path.cwd()))  # the user's own classes, by class path
    sys.exit(main(sys.argv[1:]))
