"""Public names of the package: where the site documents each, and what a docstring or a signature means by it."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

ROOMS = (
    "errors", "topology", "nn", "dynamics", "pruning", "callbacks", "data", "task", "checkpoints", "export",
    "export.hub", "tracking", "paper",
)  # fmt: skip
"""Rooms with a public face, from the lowest floor up."""


@cache
def public_names() -> dict[str, dict[str, Any]]:
    """What each room exports: room → name as it is imported → object.

    A name that the package exports at its top is imported from there, and stands in the room that defines it.
    """
    import psn_lightning

    rooms: dict[str, dict[str, Any]] = {room: {} for room in ROOMS}
    for name in psn_lightning.__all__:
        value = getattr(psn_lightning, name)
        rooms[value.__module__.split(".")[1]][f"psn_lightning.{name}"] = value
    for room, exported in rooms.items():
        module = importlib.import_module(f"psn_lightning.{room}")
        at_the_top = list(exported.values())
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not any(value is other for other in at_the_top):
                is_defined = inspect.isclass(value) or inspect.isroutine(value)
                exported[f"{module.__name__ if is_defined else _defining_module(module, name)}.{name}"] = value
    return rooms


def _defining_module(room: ModuleType, name: str) -> str:
    """Module of a room that assigns a name: its docstring stands there."""
    folder = Path(str(room.__file__)).parent
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                parts = path.relative_to(folder).with_suffix("").parts
                return ".".join([room.__name__, *(part for part in parts if part != "__init__")])
    raise LookupError(f"no module of {room.__name__} assigns {name}")


def _documented(value: object) -> str | None:
    """Name under which an object is documented."""
    names = (name for exported in public_names().values() for name, other in exported.items() if other is value)
    return next(names, None)


def show_public_bases(app: Sphinx, name: str, obj: object, options: object, bases: list[Any]) -> None:
    """Replace bases that are not public by theirs."""

    def public(base: Any) -> Any:
        if not isinstance(base, type):  # NamedTuple is a function
            return base
        mro = (c for c in base.__mro__ if not c.__module__.startswith("psn_lightning") or _documented(c))
        return next(mro)

    bases[:] = dict.fromkeys(map(public, bases))


def mark_up_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Take ``|w|`` as an absolute value, and what an attribute's docstring begins with as text, not as its type."""
    lines[:] = [line.replace("|", r"\|") for line in lines]
    if what in {"attribute", "property"}:
        lines[:0] = ["..", ""]  # an empty comment


def resolve_name(app: Sphinx, env: Any, node: Any, contnode: nodes.Element) -> nodes.Node | None:
    """Lead a reference to where its name is documented; leave one to an internal name as text.

    A name of the package that does not exist stays unresolved, which is a warning.
    """
    if node.get("refdomain") != "py":
        return None
    target, module, within = node["reftarget"], node.get("py:module"), node.get("py:class")
    try:
        if target.startswith("psn_lightning."):
            value = _find(target)
        elif within and hasattr(owner := _find(f"{module}.{within}"), target):
            value = next(vars(c)[target] for c in getattr(owner, "__mro__", ()) if target in vars(c))
        else:
            modules = [module for name, module in sys.modules.items() if name.startswith("psn_lightning")]
            value = next(vars(module)[target] for module in modules if target in vars(module))
    except (ImportError, AttributeError, StopIteration):
        return None
    documented = _documented(value)
    if documented is None or documented == target:
        return contnode
    python = env.domains["py"]
    return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], documented, node, contnode)  # type: ignore[no-any-return]


def _find(path: str) -> object:
    """Object of a dotted path.

    Raises:
        ImportError: If no part of the path is a module.
        AttributeError: If a module or class has no such name.
    """
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        if not module:
            raise
    return getattr(_find(module), name)
