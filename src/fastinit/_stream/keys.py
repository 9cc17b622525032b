"""Keys: which random tensor this is.

A weight is a pure function of (seed, stream, index): the seed names the model, the stream names the
tensor, and nothing is drawn from a hidden state.
"""

from __future__ import annotations

import hashlib
import operator
import secrets
from dataclasses import dataclass
from typing import Any

from .._common.checks import shown

__all__ = ["Key", "check_key", "check_word"]

_LIMIT = 1 << 64


def check_word(value: object, what: str) -> int:
    """The value as an int in [0, 2^64): NumPy's integers are accepted, bool is refused."""
    if type(value) is int and 0 <= value < _LIMIT:  # the common case first
        return value
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{what}: expected an int in [0, 2**64), got {type(value).__name__} {shown(value)}")
    if not 0 <= number < _LIMIT:
        raise ValueError(f"{what}: expected an int in [0, 2**64), got {shown(number)}")
    return number


@dataclass(frozen=True, slots=True)
class Key:
    """Names one random tensor of one seed.

    ``key / name`` is the key of a child: a tensor, or a group of tensors, named by a string or a
    number. Children of different names are independent, and a child does not depend on
    its siblings: adding a layer to a model moves no other layer's weights.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    stream : int, default 0
        In [0, 2**64); 0 is the root. Usually reached by ``/`` and not given.

    Raises
    ------
    TypeError
        If `seed` or `stream` is not an integer.
    ValueError
        If one is out of range.

    Examples
    --------
    >>> Key(0) / "encoder.0.weight"
    Key(seed=0, stream=17597502136363083683)
    """

    seed: int
    stream: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_word(self.seed, "seed"))
        object.__setattr__(self, "stream", check_word(self.stream, "stream"))

    def __truediv__(self, name: str | int) -> Key:
        """The key of the child called `name`: a str, or an int in [0, 2**64)."""
        if isinstance(name, str):
            payload = b"s" + _utf8(name)
        else:
            payload = b"i" + check_word(name, "key / name").to_bytes(8, "little")
        digest = hashlib.blake2b(
            self.stream.to_bytes(8, "little") + payload, digest_size=8, person=b"fastinit-v1"
        ).digest()
        return Key(self.seed, int.from_bytes(digest, "little"))

    @classmethod
    def from_entropy(cls) -> Key:
        """A key that no other call returns: its seed comes from the operating system."""
        return cls(secrets.randbits(64))


def _utf8(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"key / name: expected a str that UTF-8 can encode, got {shown(name)}") from None


def check_key(key: Any) -> Key:
    """The key, if it is a Key; anything else is a TypeError."""
    if not isinstance(key, Key):
        hint = f"; Key({shown(key)}) makes one of a seed" if isinstance(key, int) else ""
        raise TypeError(f"key: expected a fastinit.Key, got {type(key).__name__}{hint}")
    return key
