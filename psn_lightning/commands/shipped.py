"""Configurations that come with the package, and what a name on the command line stands for."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from psn_lightning.errors import SettingError, suggest

PREFIX = "pkg:"
"""Begins the address of a configuration of the package, whatever files lie in the working directory."""

_SUFFIX = ".yaml"


@cache
def shipped_folder() -> Path:
    """Folder of the configurations: the installed package's, or ``conf`` of a checkout."""
    package = Path(str(resources.files("psn_lightning")))
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@cache
def shipped_names() -> tuple[str, ...]:
    """Names of the configurations, such as ``fashion_rigl`` and ``rules/set``, sorted."""
    folder = shipped_folder()
    return tuple(sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob(f"*{_SUFFIX}")))


def find_config(given: str) -> Path:
    """Find the file of a configuration.

    Args:
        given: Path of a file, which wins if the file exists; name of a configuration of the package, such as
            ``fashion_rigl``; or its address, such as ``pkg:rules/set.yaml``.

    Returns:
        The path as it was given, or the absolute path of a file of the package.

    Raises:
        SettingError: If there is neither such a file nor such a name.
    """
    is_address = given.startswith(PREFIX)
    if not is_address and Path(given).is_file():
        return Path(given)
    name = given.removeprefix(PREFIX).removesuffix(_SUFFIX) if is_address else given
    if name in shipped_names():
        return shipped_folder() / f"{name}{_SUFFIX}"
    hint = suggest(name.removesuffix(_SUFFIX).removeprefix("conf/"), shipped_names())
    raise SettingError(f"config file not found: {given}{hint} (psn-train configs lists those of the package)")


def local_or_shipped(folder: str) -> Path:
    """Find a folder of configurations: ``conf/<folder>`` of the working directory if it exists, else the package's."""
    local = Path("conf") / folder
    return local if local.is_dir() else shipped_folder() / folder
