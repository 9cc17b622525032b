"""A sequence of rows, as tables, receipts and audits are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

__all__ = ["Rows"]

Row = TypeVar("Row")


class Rows(Sequence[Row]):
    """Rows that do not change; what they are together the subclass prints."""

    __slots__ = ("_rows",)
    _rows: tuple[Row, ...]

    def __init__(self, rows: Iterable[Row]) -> None:
        object.__setattr__(self, "_rows", tuple(rows))  # a subclass may be frozen

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)
