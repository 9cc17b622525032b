"""A receipt: what every tensor of a model was filled with, as lines of JSON that outlive the process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.checks import shown, whole_number
from .._common.dtypes import check_shape, raw_view, resolve
from .._stream.draw import draw
from .._stream.keys import Key, check_key
from .._stream.laws import Law
from .._version import __version__
from ..initializers import Initializer, RandomNormal, RandomUniform, TruncatedNormal, get
from ..initializers.catalogue import BY_CLASS
from ..initializers.fans import Fans
from .parameters import Parameter
from .parts import Part
from .plan import Piece, Plan, Planned
from .reading import read_json
from .rows import Rows
from .table import Row, Table, fans_of, law_in_words, std_of

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = ["Receipt", "Record", "new_hash", "places", "sampled_hash"]

FORMAT = 1  # of the file
SAMPLED = 256  # elements
_MADE_WHOLE = 1 << 16  # elements of a tensor without a law that are drawn for the sake of a hash
_LONGEST_CONFIG = 1 << 16  # characters; the array of a Constant may be as long as the tensor
_OF_LAW: dict[str, Any] = {"normal": RandomNormal, "uniform": RandomUniform, "truncated_normal": TruncatedNormal}


@dataclass(frozen=True)
class Record:
    """One tensor of a receipt: a parameter, or a piece of a fused or stacked one.

    Attributes
    ----------
    name : str
        From which the key comes: ``key / name``.
    parameter : str
        The model's own name of the parameter that it is, or lies in.
    aliases : tuple of str
        Other names of that parameter.
    shape : tuple of int
        (out, in, \\*field).
    dtype : str
    rule : str
        The pattern of the rule; "" where the plan was not given.
    law : Law or None
        Of the elements; None if they are fixed or depend on one another.
    initializer : dict or None
        Its name and options, as `fastinit.get` takes them; None if they are a function, or an array that is too long to write.
    fans : Fans or None
        Where the law depends on them.
    seed, stream, plane : int
        Of the random numbers.
    stream_version : int
        Of the definition of the random numbers.
    sampled : str or None
        Hash of 256 elements at places that follow from the name; None if they cannot be drawn alone.
    sha256 : str or None
        Of all bytes of the parameter as a file holds them, little-endian in the order of its own axes, where it was asked for.
    whole : tuple of int
        The shape of the parameter.
    axes, start, runs : tuple of int
        Where the tensor lies in the parameter, see `Part`.
    """

    name: str
    parameter: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    rule: str
    law: Law | None
    initializer: Mapping[str, Any] | None = dataclasses.field(hash=False)
    fans: Fans | None
    seed: int
    stream: int
    plane: int
    stream_version: int
    sampled: str | None
    sha256: str | None
    whole: tuple[int, ...]
    axes: tuple[int, ...]
    start: tuple[int, ...]
    runs: tuple[int, int] | None = None

    @property
    def key(self) -> Key:
        return Key(self.seed, self.stream)

    @property
    def part(self) -> Part:
        return Part(self.name, self.shape, self.axes, self.start, self.runs)

    def made(self) -> Initializer | None:
        """The initializer that the values come from; None if the receipt does not hold it."""
        if self.law is not None:
            return _OF_LAW[self.law.name](*self.law.parameters)  # type: ignore[no-any-return]
        return None if self.initializer is None else get(dict(self.initializer))

    def words(self) -> str:
        """How it was asked to begin."""
        made = self.made()
        return "a function or an array that the receipt does not hold" if made is None else law_in_words(made, self.shape)


class Receipt(Rows[Record]):
    """What every tensor of a model was filled with: enough to make it again, and to tell later whether a model still has it.

    Parameters
    ----------
    records : iterable of Record
    key : Key
        Of the model.
    source : str, default ""
        Where the plan comes from.
    version : str
        Of fastinit.

    Examples
    --------
    >>> plan = Plan([Rule("**.bias", "zeros"), Rule("**.weight", "he_normal")])
    >>> receipt = Receipt.of(plan.resolve({"0.weight": (256, 784), "0.bias": (256,)}), Key(0), plan=plan)
    >>> receipt.save("model.receipt")
    >>> Receipt.load("model.receipt") == receipt
    True
    """

    __slots__ = ("key", "source", "version")
    key: Key
    source: str
    version: str

    def __init__(self, records: Iterable[Record], key: Key, *, source: str = "", version: str = __version__) -> None:
        super().__init__(records)
        for name, value in (("key", check_key(key)), ("source", source), ("version", version)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __reduce__(self) -> Any:
        return _made_again, (self._rows, self.key, self.source, self.version)

    @classmethod
    def of(
        cls, planned: Iterable[Planned], key: Key, *, plan: Plan | None = None, hashes: Mapping[str, str] | None = None
    ) -> Receipt:
        """The receipt of a model that is filled with `planned` from `key`; neither the model nor its memory is needed.

        Parameters
        ----------
        planned : iterable of Planned
            What `Plan.resolve` returns.
        key : Key
            Of the model.
        plan : Plan, optional
            For the patterns of its rules, and its source.
        hashes : mapping of str to str, optional
            By name of the parameter: the hash of all its bytes, see `new_hash`.

        Returns
        -------
        Receipt
        """
        check_key(key)
        hashes = hashes or {}
        records = [
            _record(one.parameter, piece, key, plan, hashes.get(one.parameter.name)) for one in planned for piece in one.pieces
        ]
        return cls(records, key, source="" if plan is None else plan.source)

    def _identity(self) -> tuple[Any, ...]:
        return self._rows, self.key, self.source, self.version

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Receipt) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.key, self.source, self.version, tuple(record.stream for record in self)))

    def __repr__(self) -> str:
        return f"Receipt of {len(self)} tensors, {sum(math.prod(one.shape) for one in self):,} numbers, from {self.key}"

    def __str__(self) -> str:
        rows = [
            Row(
                one.name, one.parameter, one.shape, one.dtype, one.rule, one.words(),
                math.nan if (made := one.made()) is None else std_of(made, one.shape), one.fans,
            )
            for one in self
        ]  # fmt: skip
        source = f", {self.source}" if self.source else ""
        return f"{self!r} (fastinit {self.version}{source})\n{Table(rows)}"

    def planned(self) -> tuple[Planned, ...]:
        """What a plan resolved to: each parameter and its pieces, those without an initializer left out."""
        pieces: dict[str, list[Piece]] = {}
        parameters: dict[str, Parameter] = {}
        for one in self:
            parameters.setdefault(one.parameter, Parameter(one.parameter, one.whole, one.dtype, aliases=one.aliases))
            made = one.made()
            if made is not None:
                pieces.setdefault(one.parameter, []).append(Piece(one.part, made, 0))
        return tuple(Planned(parameter, tuple(pieces.get(name, ()))) for name, parameter in parameters.items())

    def save(self, path: StrPath) -> None:
        """Write the receipt to a file: lines of JSON, of which the first tells of the model and each other of a tensor.

        The file appears whole or not at all, also if the machine stops in between.

        Parameters
        ----------
        path : str or Path
            A file that exists is replaced.
        """
        target = Path(path)
        head = {
            "format": FORMAT, "fastinit": self.version, "source": self.source, "seed": self.key.seed,
            "stream": self.key.stream, "tensors": len(self),
        }  # fmt: skip
        lines = [head, *({**vars(one), "law": one.law and [one.law.name, *one.law.parameters]} for one in self)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        name = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            with open(name, "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            name.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: StrPath) -> Receipt:
        """The receipt that `save` wrote.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Receipt

        Raises
        ------
        ValueError
            If the file is none, is cut off, or was written for another format; the message has the number of the line.
        """
        lines = Path(path).read_bytes().split(b"\n")
        head = _parsed(path, 1, lines[0])
        if head.get("format") != FORMAT:
            raise ValueError(f"{path}, line 1: expected a receipt of format {FORMAT}, got {shown(head.get('format'))}")
        try:
            key, count = Key(head["seed"], head["stream"]), whole_number("tensors", head["tensors"], least=0)
            source, version = head["source"], head["fastinit"]
            if not isinstance(source, str) or not isinstance(version, str):
                raise TypeError(f"source {shown(source)}, fastinit {shown(version)}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line 1: expected seed, stream, tensors, source and fastinit, got {error}") from None
        if len(lines) != count + 2 or lines[-1]:
            found = sum(map(bool, lines[1:]))
            raise ValueError(f"{path}, line {len(lines)}: expected {count} whole lines of tensors, got {found}: it is cut off")
        records = []
        for number, line in enumerate(lines[1:-1], 2):
            values = _parsed(path, number, line)
            try:
                records.append(_read(values, key))
            except (TypeError, ValueError, KeyError) as error:
                what = f"no {error}" if isinstance(error, KeyError) else error
                raise ValueError(f"{path}, line {number}: {what}") from None
        return cls(records, key, source=source, version=version)


def _made_again(records: tuple[Record, ...], key: Key, source: str, version: str) -> Receipt:
    return Receipt(records, key, source=source, version=version)


def _record(parameter: Parameter, piece: Piece, key: Key, plan: Plan | None, sha256: str | None) -> Record:
    part, initializer = piece.part, piece.initializer
    own = key / part.name
    return Record(
        part.name, parameter.name, parameter.aliases, part.shape, parameter.dtype,
        "" if plan is None else plan.rules[piece.rule].pattern, initializer.law(part.shape), _config(initializer),
        fans_of(initializer, part.shape), own.seed, own.stream, _core.PLANE_REAL, _core.STREAM_VERSION,
        sampled_hash(part.name, part.shape, parameter.dtype, initializer, own), sha256, parameter.shape, part.axes, part.start,
        part.runs,
    )  # fmt: skip


def _config(initializer: Initializer) -> dict[str, Any] | None:
    name = type(initializer).__name__
    if BY_CLASS.get(name) is not type(initializer):
        return None
    written = json.dumps({"class_name": name, "config": initializer.get_config()})
    return json.loads(written) if len(written) <= _LONGEST_CONFIG else None


def _parsed(path: StrPath, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = read_json(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: expected a line of JSON, got {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}, line {number}: expected a JSON object, got {shown(values)}")
    return values


def _read(values: dict[str, Any], key: Key) -> Record:
    names = [field.name for field in dataclasses.fields(Record)]
    if extra := set(values) - set(names):
        raise ValueError(f"expected {', '.join(names)}, got {', '.join(sorted(extra))} too")
    values = {name: values[name] for name in names}
    for name in ("shape", "whole", "axes", "start"):
        values[name] = check_shape(values[name])
    values["runs"] = None if values["runs"] is None else check_shape(values["runs"])
    for name in ("name", "parameter", "rule"):
        if not isinstance(values[name], str):
            raise TypeError(f"{name}: expected a str, got {shown(values[name])}")
    values["aliases"] = tuple(values["aliases"])
    values["fans"] = None if values["fans"] is None else Fans(*values["fans"])
    if values["law"] is not None:
        law, *parameters = values["law"]
        if law not in _OF_LAW:
            raise ValueError(f"law: expected one of {', '.join(_OF_LAW)}, got {shown(law)}")
        values["law"] = Law(law, tuple(map(float, parameters)))
    resolve(values["dtype"])
    record = Record(**values)
    own = key / record.name
    if record.key != own:
        raise ValueError(f"{record.name}: expected seed and stream of {own}, which the name has, got {record.key}")
    record.made()
    return record


def new_hash() -> Any:
    """The hash of all bytes of a parameter, to be updated with them: SHA-256, as ``sha256sum`` computes it."""
    return hashlib.sha256()


def places(name: str, size: int) -> range:
    """Which elements of a tensor its sampled hash is of: an arithmetic progression that follows from the name.

    Parameters
    ----------
    name : str
        Of the tensor.
    size : int
        How many elements it has.

    Returns
    -------
    range
        Of 256 elements over at least half of the tensor; all of a small one.
    """
    if size <= SAMPLED:
        return range(size)
    digest = hashlib.blake2b(name.encode(), digest_size=16, person=b"fastinit-places").digest()
    longest = (size - 1) // (SAMPLED - 1)
    step = longest - int.from_bytes(digest[:8], "little") % ((longest + 1) // 2)
    first = int.from_bytes(digest[8:], "little") % (size - (SAMPLED - 1) * step)
    return range(first, first + (SAMPLED - 1) * step + 1, step)


def sampled_hash(name: str, shape: tuple[int, ...], dtype: str, initializer: Initializer, key: Key) -> str | None:
    """The hash of the elements of a tensor at `places`, drawn alone; None if that takes the whole of a large tensor."""
    size = math.prod(shape)
    chosen = places(name, size)
    picked = slice(chosen.start, chosen.stop, chosen.step)
    law = initializer.law(shape)
    bits = dtype == "bfloat16"  # which needs no other package then
    try:
        if law is not None:
            return elements_hash(draw(*law, (size,), key, dtype, np.empty(len(chosen), np.uint16) if bits else None, picked))
        if size > _MADE_WHOLE:
            return None
        values = initializer(shape, dtype, key=key, out=np.empty(shape, np.uint16) if bits else None)
        return elements_hash(values.reshape(-1)[picked])
    except ImportError:  # of float8 without ml_dtypes
        return None


def elements_hash(values: NDArray[Any]) -> str:
    """Of the bytes of elements, little-endian."""
    values = np.ascontiguousarray(raw_view(values))
    return hashlib.blake2b(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes(), digest_size=16).hexdigest()
