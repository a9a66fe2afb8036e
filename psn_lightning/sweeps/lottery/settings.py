"""Settings of a lottery, from the command line."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from psn_lightning.checkpoints.differences import decisive
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.lottery import RewindTo
from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.pruning import Scope
from psn_lightning.sweeps.base_config import build, check_fit, resolve
from psn_lightning.sweeps.sweep import check_name

Control = Literal["redraw", "shuffle"]
_LONGEST = 100  # levels: two digits in names of files


@dataclass(frozen=True)
class Lottery:
    """Iterative magnitude pruning with rewinding (Frankle and Carbin, 2019, arXiv 1803.03635).

    Args:
        name: Name of the lottery; the same command goes on with the lottery of that name.
        levels: Number of levels of pruning and training after the first fit.
        share: Share of the remaining connections that a level prunes.
        scope: Connections that compete: those of a layer, or of the network.
        rewind: Optimizer step of the first fit that every level starts from.
        rewind_to: Parameters that a level starts with: those of that step, or the trained ones (schedule).
        one_shot: Whether to prune the share of all levels at once, in a single level.
        controls: Fits beside each level: weights drawn again (redraw), connections shuffled in each layer (shuffle).
        metric: Metric of the table and the figure, at the end of each fit.
        retries: Number of times that a level is tried again after its process died.

    Raises:
        SettingError: If a setting is out of range.
    """

    name: str
    levels: int = 10
    share: float = 0.2
    scope: Scope = "layer"
    rewind: int = 0
    rewind_to: RewindTo = "weights"
    one_shot: bool = False
    controls: tuple[Control, ...] = ()
    metric: str = "test/accuracy"
    retries: int = 2

    def __post_init__(self) -> None:
        check_name(self.name, "lottery")
        if not 1 <= self.levels < _LONGEST:
            raise SettingError(f"levels {self.levels} must be from 1 to {_LONGEST - 1}")
        if not 0 <= self.share < 1:
            raise SettingError(
                f"share {self.share} must be in [0, 1): the share of the connections that a level prunes"
            )
        for setting in ("rewind", "retries"):
            if getattr(self, setting) < 0:
                raise SettingError(f"{setting} {getattr(self, setting)} must be at least 0")
        if self.controls and self.rewind_to == "schedule":
            raise SettingError("controls are of rewinding to weights: leave --control out, or set rewind_to to weights")

    @property
    def n_levels(self) -> int:
        """Number of fits after the first one, without controls."""
        return 1 if self.one_shot else self.levels

    @property
    def levels_at_once(self) -> int:
        """Number of levels whose share is pruned at once."""
        return self.levels if self.one_shot else 1

    def describe_share(self, level: int) -> str:
        """Share of the connections that is left at a level, but for rounding."""
        return f"{(1 - self.share) ** (level * self.levels_at_once):.1%}"

    def digest(self, config: dict[str, Any]) -> str:
        """Digest of what must not change within a lottery; the number of levels and the controls may grow.

        Args:
            config: Complete configuration of the fits.
        """
        changeable = {"metric", "retries", "controls", *(() if self.one_shot else ("levels",))}
        own = {key: value for key, value in asdict(self).items() if key not in changeable}
        settings = sorted((key, str(value)) for key, value in (own | decisive(flatten(config))).items())
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def dump(self) -> str:
        """Settings as YAML."""
        return yaml.safe_dump({**asdict(self), "controls": list(self.controls)}, sort_keys=False)


def parse(arguments: Sequence[str]) -> tuple[Lottery, list[str]]:
    """Read a lottery from the command line.

    Args:
        arguments: Command line after ``psn-train lottery``.

    Returns:
        Lottery, and the arguments that are those of ``psn-train fit``.

    Raises:
        SettingError: If a setting is not possible.
    """
    options, others = parser().parse_known_args(list(arguments))
    values = {field.name: getattr(options, field.name) for field in fields(Lottery)}
    return Lottery(**{**values, "controls": tuple(dict.fromkeys(options.controls))}), others


def parser() -> CommandParser:
    """Parser of the command's own arguments; all others are those of ``psn-train fit``."""
    parser = CommandParser(
        prog="psn-train lottery",
        description="Find lottery tickets: prune the smallest trained weights, rewind the others, train again.",
        epilog="All other arguments are those of psn-train fit: --config conf/mnist_dense.yaml --model.hidden …",
        allow_abbrev=False,
    )
    parser.add_argument("--name", required=True, help="name; the same command goes on with the lottery of that name")
    parser.add_argument("--levels", type=int, default=10, help="levels after the dense fit; default: 10")
    parser.add_argument("--share", type=float, default=0.2, help="share that a level prunes; default: 0.2")
    parser.add_argument("--scope", choices=get_args(Scope), default="layer", help="default: layer, as in the paper")
    parser.add_argument("--rewind", type=int, default=0, metavar="STEP", help="optimizer step to rewind to; default: 0")
    parser.add_argument(
        "--rewind-to",
        choices=get_args(RewindTo),
        default="weights",
        help="weights, or the schedule only; default: weights",
    )
    parser.add_argument("--one-shot", action="store_true", help="prune the share of all levels at once")
    parser.add_argument(
        "--control",
        dest="controls",
        nargs="+",
        choices=get_args(Control),
        default=[],
        help="fits beside each level: weights drawn again, connections shuffled; default: none",
    )
    parser.add_argument("--metric", default="test/accuracy", help="of table and figure; default: test/accuracy")
    parser.add_argument("--retries", type=int, default=2, help="further tries after a process died; default: 2")
    return parser


def configuration(arguments: Sequence[str]) -> dict[str, Any]:
    """Complete configuration of the fits, checked before any of them starts.

    Args:
        arguments: Command line after ``psn-train fit``.

    Raises:
        SettingError: If a setting does not exist, is impossible, or does not suit a fit of a lottery.
    """
    config = resolve(arguments)
    trainer = config["trainer"]
    check_fit(config, "lottery")
    if trainer["enable_checkpointing"] is False:
        raise SettingError("trainer.enable_checkpointing false: a ticket is a checkpoint; leave it out")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        build(path)
    return config
