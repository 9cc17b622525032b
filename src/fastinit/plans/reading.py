"""JSON that someone else may have written."""

from __future__ import annotations

import json
from typing import Any

from .._common.checks import shown

__all__ = ["read_json"]


def read_json(text: str | bytes) -> Any:
    """What a text holds, UTF-8 if it is bytes.

    Raises
    ------
    ValueError
        If it is no JSON, is nested too deeply, or an object has a name twice, of which Python would silently keep the last.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise ValueError(f"an error in line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shown(name)} twice in one object")
        found[name] = value
    return found
