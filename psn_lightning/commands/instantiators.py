"""Making of configured objects by jsonargparse, with our errors left as they are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from psn_lightning.errors import SettingError


class _Refused(BaseException):
    """Carries a :class:`SettingError` past jsonargparse, which turns every Exception of a class into a text."""

    def __init__(self, error: SettingError) -> None:
        super().__init__(str(error))
        self.error = error


def carry_errors(parser: LightningArgumentParser) -> None:
    """Let a :class:`SettingError` of any configured class pass jsonargparse; :func:`carried_errors` raises it.

    Args:
        parser: Parser that makes the objects, with all its instantiators.
    """
    for (class_type, subclasses), instantiator in list((parser._instantiators or {}).items()):
        parser.add_instantiator(_carrying(instantiator), class_type, subclasses)
    parser.add_instantiator(_carrying(lambda made, *args, **kwargs: made(*args, **kwargs)), object)


@contextmanager
def carried_errors() -> Iterator[None]:
    """Raise the error that objects made within have met.

    Raises:
        SettingError: If an argument of a class cannot be, or the class is abstract.
    """
    try:
        yield
    except _Refused as refused:
        raise refused.error from refused.error.__cause__


def _carrying(instantiate: Callable[..., Any]) -> Callable[..., Any]:
    """An instantiator of jsonargparse that carries a :class:`SettingError`, and refuses abstract classes."""

    @functools.wraps(instantiate)  # jsonargparse looks at the signature
    def wrapper(class_type: type, *args: Any, **kwargs: Any) -> Any:
        if inspect.isabstract(class_type):
            raise _Refused(SettingError(f"{class_type.__name__} is an abstract class: name a subclass"))
        try:
            return instantiate(class_type, *args, **kwargs)
        except SettingError as error:
            raise _Refused(error) from error

    return wrapper
