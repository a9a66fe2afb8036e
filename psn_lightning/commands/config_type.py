"""Type of a setting that names a configuration."""

from __future__ import annotations

from typing import Any

from jsonargparse.typing import Path_fr, register_type

from psn_lightning.commands.shipped import find_config


class ConfigFile(Path_fr):  # type: ignore[misc]  # made by a function
    """Configuration that a file names: a path relative to the file, or a name of the package's configurations.

    Args:
        given: Path or name.

    Raises:
        SettingError: If there is neither such a file nor such a name.
    """

    def __init__(self, given: Any, **options: Any) -> None:
        super().__init__(str(find_config(given)) if isinstance(given, str) else given, **options)


register_type(ConfigFile, str, type_check=lambda value, kind: isinstance(value, kind))
