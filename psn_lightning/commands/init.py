"""``psn-train init``: a folder to work in, with the configurations, a starter model and a README."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from psn_lightning.commands.messages import CommandParser
from psn_lightning.commands.shipped import shipped_folder
from psn_lightning.errors import SettingError

_LEFT_OUT = shutil.ignore_patterns("examples", "__pycache__")  # examples/ is in a checkout only


def run(arguments: Sequence[str]) -> None:
    """Make the folder.

    Args:
        arguments: Command line after ``psn-train init``.

    Raises:
        SettingError: If a file or folder that would be written exists.
        OSError: If a file cannot be written.
    """
    parser = CommandParser(prog="psn-train init", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: this folder")
    folder = parser.parse_args(arguments).folder
    starter = Path(str(resources.files("psn_lightning"))) / "starter"
    files = [path for path in sorted(starter.iterdir()) if path.is_file()]
    for name in ("conf", *(path.name for path in files)):
        if (folder / name).exists():
            raise SettingError(f"{folder / name} exists, and is not overwritten: give another folder, or remove it")
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{folder} is a file: give the name of a folder")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(shipped_folder(), folder / "conf", ignore=_LEFT_OUT)
    for path in files:
        shutil.copyfile(path, folder / path.name)
    listed = ", ".join(["conf/", *(path.name for path in files)])
    print(f"Written to {folder.resolve()}: {listed}. Begin with README.md, or with:")
    print(f"  {'' if folder == Path() else f'cd {shlex.quote(str(folder))} && '}psn-train fit --config starter.yaml")
