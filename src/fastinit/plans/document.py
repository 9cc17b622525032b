"""Plans as JSON and as TOML."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from .._common.checks import shown
from ..initializers import Initializer
from ..initializers.catalogue import BY_CLASS
from ..initializers.fans import FanRule
from .parts import Spelling
from .plan import Plan
from .reading import read_json
from .rule import Rule

__all__ = ["FORMAT", "as_dict", "from_dict", "from_json", "from_toml", "initializer_as_dict", "to_json", "to_toml"]

FORMAT = 1  # of the document; raised when an older reader would misunderstand it

_BARE = re.compile(r"[A-Za-z0-9_-]+")


# ---- as dicts of what JSON and TOML can hold --------------------------------------------------------


def initializer_as_dict(initializer: Initializer) -> dict[str, Any]:
    """The class by name and the options that are not at their defaults.

    Raises
    ------
    TypeError
        If it is a function of one's own, which no document can hold.
    """
    name = type(initializer).__name__
    if BY_CLASS.get(name) is not type(initializer):
        raise TypeError(f"initializer: expected one of fastinit's for a document, got {initializer!r}")
    config = initializer.get_config()
    usual = {field.name: field.default for field in dataclasses.fields(initializer)}
    chosen = {option: value for option, value in config.items() if getattr(initializer, option) is not usual[option]}
    chosen = {option: _inner(value) for option, value in chosen.items() if value is not None and value != usual[option]}
    return {"class_name": name, "config": chosen} if chosen else {"class_name": name}


def _inner(value: Any) -> Any:
    """Options of initializers inside of others, without the ones that are None."""
    if isinstance(value, Mapping):
        return {name: _inner(one) for name, one in value.items() if one is not None}
    return [_inner(one) for one in value] if isinstance(value, (list, tuple)) else value


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as a dict of values that JSON and TOML can hold."""
    document: dict[str, Any] = {"fastinit_plan": FORMAT}
    if plan.source:
        document["source"] = plan.source
    document["rules"] = [_rule_as_dict(rule) for rule in plan.rules]
    if plan.spellings:
        document["spellings"] = [_options(spelling) for spelling in plan.spellings]
    return document


def _rule_as_dict(rule: Rule) -> dict[str, Any]:
    found = _options(rule)
    found["initializer"] = initializer_as_dict(rule.initializer)
    if isinstance(rule.fans, FanRule):
        found["fans"] = _options(rule.fans)
    if rule.slices is not None and not isinstance(rule.slices[0], str):
        found["slices"] = {name: size for name, size in rule.slices}
    return found


def _options(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults; tuples are lists."""
    found = {}
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        if one != field.default:
            found[field.name] = list(one) if isinstance(one, tuple) else one
    return found


def from_dict(document: Any) -> Plan:
    """The plan that `as_dict` returned.

    Raises
    ------
    TypeError, ValueError
        If it is no such dict; the message names the entry.
    """
    if not isinstance(document, Mapping) or "fastinit_plan" not in document:
        raise ValueError(f"plan: expected a document with 'fastinit_plan', got {shown(document)}")
    if document["fastinit_plan"] != FORMAT:
        raise ValueError(f"plan: expected format {FORMAT}, got {shown(document['fastinit_plan'])}")
    _only(document, ("fastinit_plan", "source", "rules", "spellings"), "plan")
    rules = [_made(Rule, one, f"rules[{i}]") for i, one in enumerate(_list(document, "rules"))]
    spellings = [_made(Spelling, one, f"spellings[{i}]") for i, one in enumerate(_list(document, "spellings"))]
    return Plan(tuple(rules), tuple(spellings), document.get("source", ""))


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name, [])
    if not isinstance(value, list):
        raise TypeError(f"{name}: expected a list, got {type(value).__name__}")
    return value


def _only(document: Mapping[str, Any], names: tuple[str, ...], what: str) -> None:
    unknown = [name for name in document if name not in names]
    if unknown:
        raise ValueError(f"{what}: expected {', '.join(names)}, got {', '.join(map(repr, unknown))}")


def _made(kind: Any, options: Any, what: str) -> Any:
    if not isinstance(options, Mapping):
        raise TypeError(f"{what}: expected the options of a {kind.__name__}, got {shown(options)}")
    fields = dataclasses.fields(kind)
    _only(options, tuple(field.name for field in fields), what)
    missing = [field.name for field in fields if field.default is dataclasses.MISSING and field.name not in options]
    if missing:
        raise ValueError(f"{what}: expected {' and '.join(missing)} too, got {shown(dict(options))}")
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{what}: {error}") from None


# ---- JSON -------------------------------------------------------------------------------------------


def to_json(plan: Plan) -> str:
    """The plan as JSON, a rule in each line."""
    document = as_dict(plan)
    lines = []
    for name, value in document.items():
        if isinstance(value, list):
            entries = ",\n".join(f"    {json.dumps(one)}" for one in value)
            lines.append(f'  "{name}": [\n{entries}\n  ]')
        else:
            lines.append(f'  "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def from_json(text: str) -> Plan:
    """The plan that `to_json` wrote."""
    try:
        document = read_json(text)
    except ValueError as error:
        raise ValueError(f"plan: expected JSON, got {error}") from None
    return from_dict(document)


# ---- TOML -------------------------------------------------------------------------------------------


def to_toml(plan: Plan) -> str:
    """The plan as TOML, a table for each rule."""
    lines = []
    for name, value in as_dict(plan).items():
        if isinstance(value, list):
            for one in value:
                lines += ["", f"[[{name}]]", *(f"{_key(option)} = {_toml(inner)}" for option, inner in one.items())]
        else:
            lines.append(f"{_key(name)} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _toml_text(name)


def _toml_text(text: str) -> str:
    # JSON's strings are TOML's but for DEL, and TOML has no surrogates, which JSON escapes characters beyond 16 bits with.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):  # TOML has inf and nan, and wants a digit on either side of a dot
        text = repr(value)
        return text if any(mark in text for mark in ".nef") else text + ".0"
    if isinstance(value, str):
        return _toml_text(value)
    return repr(value)


def from_toml(text: str) -> Plan:
    """The plan that `to_toml` wrote."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"plan: expected TOML, got an error: {error}") from None
    except RecursionError:
        raise ValueError("plan: expected TOML, got lists or tables nested too deeply") from None
    return from_dict(document)
