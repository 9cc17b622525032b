"""The table of initializers by name, which each class enters where it is defined."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from .base import Initializer

__all__ = ["BY_CLASS", "BY_NAME", "catalogue", "registered"]

Class = TypeVar("Class", bound=type[Initializer])

BY_NAME: dict[str, type[Initializer]] = {}  # "he_normal"
BY_CLASS: dict[str, type[Initializer]] = {}  # "HeNormal"


def _snake_case(name: str) -> str:
    for proper in ("LeCun", "MuP", "S4D"):  # proper names are one word each
        name = name.replace(proper, proper.capitalize())
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def registered(*aliases: str) -> Callable[[Class], Class]:
    """Class decorator: enter the class under its name, that name in snake case, and aliases in either form."""

    def enter(cls: Class) -> Class:
        for name in (cls.__name__, _snake_case(cls.__name__), *aliases):
            table = BY_NAME if name == name.lower() else BY_CLASS
            if name in table:
                raise ValueError(f"{name}: expected a name that no other initializer has")
            table[name] = cls
        return cls

    return enter


def catalogue() -> tuple[type[Initializer], ...]:
    """Every class once, in the order of definition."""
    return tuple(dict.fromkeys(BY_CLASS.values()))
