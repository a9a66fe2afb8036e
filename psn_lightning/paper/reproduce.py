"""``psn-train reproduce``: run the paper's tables and figures, and add the runs to ``results/runs.jsonl``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml
from rich.console import Console

from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.paper.check import check_claim
from psn_lightning.paper.cost import print_list
from psn_lightning.paper.record import RECORD, read
from psn_lightning.paper.recorded_run import key_of
from psn_lightning.paper.reproduction import Reproduction, cells_of, load, plan_for, select_tickets
from psn_lightning.paper.studies import Recorder, run_study
from psn_lightning.sweeps.storages import silence_optuna
from psn_lightning.sweeps.sweep import Range


def run(arguments: Sequence[str]) -> None:
    """Run the part of a reproduction that is not recorded yet, list all reproductions, or check a claim.

    Args:
        arguments: Command line after ``psn-train reproduce``.

    Raises:
        SettingError: If a name or option is not possible, or runs failed for good.
        SIGTERMException: If the command was stopped.
    """
    options = parser().parse_args(list(arguments))
    silence_optuna()
    if options.check:
        if options.name or options.budget or options.again or options.only:
            raise SettingError("--check takes --data, --seeds and --workers only: the claim says which reproductions")
        _check_resources(options.workers, None)
        check_claim(options.check, options.data, options.seeds, options.workers)
        return
    if options.list or options.name is None:
        print_list()
        return
    reproduction = load(options.name)
    data = list(dict.fromkeys(options.data or reproduction.data))
    _check(options.name, reproduction, data, options.seeds)
    _check_resources(options.workers, options.budget)
    is_wanted = _parse_only(options.name, reproduction, options.only)
    until = time.monotonic() + 60 * options.budget if options.budget else math.inf
    suffix = f"-again-{datetime.now(UTC):%Y%m%d}" if options.again else ""
    recorded_runs = read()  # also with --again: the record must be one that can be added to
    known = {} if options.again else recorded_runs
    for entry in data:
        cells = cells_of(reproduction, entry)
        seeds = options.seeds or reproduction.seeds_of(entry)
        left = [
            ticket
            for ticket, (cell, seed) in cells.items()
            if seed in seeds and is_wanted(cell) and key_of(options.name, entry, cell, seed) not in known
        ]
        if left:
            plan = select_tickets(plan_for(options.name, reproduction, entry, suffix), left)
            text = yaml.safe_dump({"reproduction": options.name, "title": reproduction.title, "data": entry})
            run_study(plan, Recorder(options.name, entry, plan, cells), text, options.workers, until)
        else:
            asked = "what is asked for" if options.only or options.seeds else "all"
            Console().print(f"{options.name}, {entry}: {asked} is in {RECORD}, nothing is left to do", highlight=False)


def _check(name: str, reproduction: Reproduction, data: Sequence[str], seeds: Sequence[int] | None) -> None:
    for entry in data:
        if entry not in reproduction.data:
            raise SettingError(f"--data {entry}: {name} has {', '.join(reproduction.data)}")
    known = dict.fromkeys(seed for entry in data for seed in reproduction.seeds_of(entry))
    for seed in seeds or []:
        if seed not in known:
            raise SettingError(f"--seeds {seed}: {name} has {', '.join(map(str, known))}")


def _check_resources(workers: int, budget: float | None) -> None:
    if workers < 1:
        raise SettingError(f"--workers {workers} must be at least 1")
    if budget is not None and not 0 < budget < math.inf:
        raise SettingError(f"--budget {budget:g} must be a number of minutes above 0; leave it out for no limit")


def _parse_only(name: str, reproduction: Reproduction, only: Sequence[str]) -> Callable[[dict[str, Any]], bool]:
    """Make the function that says whether ``--only`` selects a cell."""
    chosen: dict[str, set[str]] = {}
    for choice in only:
        key, _, value = choice.partition("=")
        known = reproduction.space.get(key)
        if known is None or isinstance(known, Range):
            raise SettingError(f"--only {choice}: give KEY=VALUE; {name} has {', '.join(reproduction.space)}")
        if value not in map(str, known):
            raise SettingError(f"--only {choice}: {key} is one of {', '.join(map(str, known))}")
        chosen.setdefault(key, set()).add(value)
    return lambda cell: all(str(cell[key]) in values for key, values in chosen.items())


def parser() -> CommandParser:
    """Parser of the command's arguments."""
    parser = CommandParser(prog="psn-train reproduce", description=__doc__)
    parser.add_argument("name", nargs="?", help="name of the reproduction, see --list")
    parser.add_argument("--list", action="store_true", help="list what is done, and how long the rest takes")
    parser.add_argument(
        "--check",
        metavar="CLAIM",
        help="repeat the runs of a claim of conf/reproduce/plan.yaml, such as scale, and compare them with the record",
    )
    parser.add_argument("--data", nargs="+", help="short names of data sets; default: all of the reproduction")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds; default: all of the reproduction")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="cells to run: model.sparsity=0.9 start=erk start=uniform; default: all",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, which share the cores; default: 1")
    parser.add_argument("--budget", type=float, help="minutes after which no run is started; default: no limit")
    parser.add_argument("--again", action="store_true", help="repeat runs that are recorded")
    return parser
