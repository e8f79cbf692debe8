"""A module that is imported when something of it is asked for."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """A module that is not executed yet. The standard library's ``LazyLoader`` executes it with the second ``import``
    already, as Python 3.11 asks for its ``__spec__`` then.
    """

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__path__ = spec.submodule_search_locations or []
        try:
            spec.loader.exec_module(self)
        except BaseException:
            del sys.modules[self.__name__]
            raise
        return getattr(self, name)


def lazily(package: str) -> None:
    """From now on let ``import package`` cost nothing until an attribute of it is used; ``from package import ...`` and
    imports of its submodules do use one. No change where it was imported already.

    For a process of one thread: a second one might see the package half made.
    """
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None or spec.loader is None:  # the import itself will say so
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Later
    del module.__path__  # which an import of a submodule asks for
    sys.modules[package] = module
