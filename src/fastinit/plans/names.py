"""Names of parameters: without the segments that wrappers add, and patterns that match them."""

from __future__ import annotations

import functools
import re

from .._common.checks import shown

__all__ = ["Pattern", "canonical", "filled"]

# Segments that torch.compile, activation checkpointing, FSDP and data parallel wrappers put into a qualified name.
_WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"})

_ALTERNATIVES = re.compile(r"\{([^{}.]*,[^{}.]*)\}")
_PART = re.compile(r"\{[^{}.]*\}|\*")


def canonical(name: str) -> str:
    """A qualified name without the segments of wrappers, wherever they stand."""
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)


class Pattern:
    """A glob on a qualified name, which it matches as a whole.

    ``*`` is any text without a dot, as a whole segment not empty; ``**``, a whole segment, is any number of segments, also none;
    ``{q,k,v}`` is one of the alternatives. Where a name can be read in several ways, what comes first is as short as possible.

    Parameters
    ----------
    text : str

    Raises
    ------
    TypeError, ValueError
        If it is no str, has an empty segment, or ``**`` or braces stand where they mean nothing.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"pattern: expected a str, got {type(text).__name__} {shown(text)}")
        self.text = text
        try:
            self._source = _regex(text)
        except ValueError as error:
            raise ValueError(f"pattern: {error}, got {shown(text)}") from None
        segments = text.split(".")
        self.captures = sum(segment.count("*") for segment in segments if segment != "**")
        # Most names are told from most patterns by their ends, or by a segment that they have not.
        self._ends = None if "*" in segments[-1] else tuple(_readings(segments[-1]))
        self._has = max((segment for segment in segments[:-1] if not set("*{") & set(segment)), key=len, default="")

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    @functools.cached_property
    def _regex(self) -> re.Pattern[str]:  # compiling takes as long as drawing a layer, and many patterns match nothing
        return re.compile(self._source)

    def match(self, name: str) -> tuple[str, ...] | None:
        """What stands for each ``*``, from left to right; None if the name does not match."""
        if (self._ends is not None and not name.endswith(self._ends)) or self._has not in name:
            return None
        found = self._regex.fullmatch(name + ".")
        return None if found is None else found.groups()


def _readings(segment: str) -> list[str]:
    """The texts that a segment without stars stands for."""
    found = _ALTERNATIVES.search(segment)
    if found is None:
        return [segment]
    return [segment[: found.start()] + one + rest for one in found[1].split(",") for rest in _readings(segment[found.end() :])]


def _regex(text: str) -> str:
    """The regular expression of a pattern, for a name with a dot behind it.

    Where a part has matched as early as it can, no later place serves the parts behind it better. So the groups are atomic, which
    means that nothing is tried a second time: plain ones would try every way to share a long name among several ``**``.
    """
    runs: list[list[str]] = [[]]  # of segments between **
    for segment in text.split("."):
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(_segment(segment))
    first, *others = ("".join(run) for run in runs)
    if not others:
        return first
    any_number = r"(?:[^.]+\.)*"
    return first + "".join(f"(?>{any_number}?{run})" for run in others[:-1]) + any_number + others[-1]


def _segment(text: str) -> str:
    """The regular expression of a segment and the dot behind it."""
    if not text:
        raise ValueError("expected segments that are not empty")
    if "**" in text:
        raise ValueError("expected ** as a whole segment")
    texts, end = [""], 0  # between the stars
    for found in _PART.finditer(text):
        texts[-1] += re.escape(text[end : found.start()])
        end = found.end()
        if found[0] == "*":
            texts.append("")
        elif _ALTERNATIVES.fullmatch(found[0]):
            texts[-1] += f"(?:{'|'.join(map(re.escape, found[0][1:-1].split(',')))})"
        else:
            raise ValueError("expected at least two alternatives in braces")
    texts[-1] += re.escape(text[end:])
    if "{" in _PART.sub("", text) or "}" in _PART.sub("", text):
        raise ValueError("expected closed braces around alternatives, without a dot inside")
    if text == "*":
        return r"(?>([^.]+)\.)"
    first, *others = texts
    group = "?:" if "{" in text else "?>"  # of alternatives a longer one may have to give way to a shorter
    middle = "".join(f"({group}([^.]*?){one})" for one in others[:-1])
    return f"(?>{first}{middle}" + (f"([^.]*){others[-1]}" if others else "") + r"\.)"


@functools.cache
def _pieces(template: str) -> tuple[str, ...]:
    return tuple(re.split(r"([*#])", template))


def filled(template: str, captures: tuple[str, ...], index: tuple[int, ...] = ()) -> str:
    """A name: in `template` each ``*`` is replaced by the next capture, and each ``#`` by the next index."""
    texts, numbers = iter(captures), iter(index)
    return "".join(next(texts) if part == "*" else str(next(numbers)) if part == "#" else part for part in _pieces(template))
