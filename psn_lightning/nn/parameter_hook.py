"""Hook on a parameter that may be replaced by another: by loading, copying or unpickling."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ParameterHook:
    """Hook that is registered once on a parameter, and again where the parameter is another one.

    Copies and unpickled objects begin without a parameter.

    Args:
        function: Function to call, a method of an object that is copied and pickled together with the hook.
        register: Method of a tensor that registers it.
    """

    def __init__(self, function: Callable[[Tensor], Tensor | None], register: str = "register_hook") -> None:
        self._function, self._register = function, register
        self._hooked: weakref.ref[nn.Parameter] | None = None
        self._handle: Any = None

    def attach(self, parameter: nn.Parameter) -> None:
        """Register the hook on a parameter, unless it is; on a frozen one it waits for the day on which it is trained.

        Args:
            parameter: Leaf parameter.
        """
        if self._hooked is None or self._hooked() is not parameter:
            frozen = not parameter.requires_grad
            parameter.requires_grad_()  # torch registers no hook on a frozen one, but keeps it through a freeze
            self._handle = getattr(parameter, self._register)(self._function)
            parameter.requires_grad_(not frozen)
            self._hooked = weakref.ref(parameter)

    def remove(self) -> None:
        """Remove the hook from the parameter."""
        if self._handle is not None:
            self._handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        """State without the parameter."""
        return {**self.__dict__, "_hooked": None, "_handle": None}
