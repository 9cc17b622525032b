"""The files that a command writes. They are resolved and checked before the work, and written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

__all__ = ["Target", "TargetError", "as_json", "decide"]


# os.replace fails on a file that is itself a mount point, and on another user's file in a directory with the sticky bit.
# Such a file is overwritten in place.
_CANNOT_BE_REPLACED = (errno.EBUSY, errno.EPERM, errno.EACCES)


class TargetError(ValueError):
    """A file cannot be written, or two options name the same file; the message says what was expected."""


@dataclass(frozen=True)
class Target:
    """A file to write.

    Attributes
    ----------
    shown : str
        The name as the user gave it, for messages.
    path : str
        The absolute path, with symbolic links resolved.
    whole : bool
        Whether it is a regular or a new file, which is replaced once the text is complete; a device or pipe is written to.
    identity : tuple
        Equal for two names of the same file.
    """

    shown: str
    path: str
    whole: bool
    identity: tuple[Any, ...]

    def write(self, text: str) -> None:
        """Write the text as UTF-8. An existing regular file keeps its mode, and its contents if writing fails.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        data = text.encode("utf-8", errors="replace")
        if not self.whole:
            with open(self.path, "wb") as file:
                file.write(data)
            return
        with _temporary(os.path.dirname(self.path)) as (descriptor, name):
            with open(descriptor, "wb") as file:
                file.write(data)
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(self.path, name)
            try:
                os.replace(name, self.path)
            except OSError as error:
                if error.errno not in _CANNOT_BE_REPLACED:
                    raise
                shutil.copyfile(name, self.path)


class _temporary:
    """A new file in a folder, open for writing; removed at the end unless it was renamed.

    The name is chosen before the file is made, so that no signal can leave a file behind whose name is not known.
    """

    def __init__(self, folder: str) -> None:
        self.name = os.path.join(folder, f".fastinit-{secrets.token_hex(8)}")

    def __enter__(self) -> tuple[int, str]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            return os.open(self.name, flags, 0o666), self.name
        except BaseException as error:
            if not isinstance(error, FileExistsError):
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.name)


def decide(files: Mapping[str, str | None]) -> dict[str, Target]:
    """Resolve the files of a command's options, and check that they are writable and different.

    Parameters
    ----------
    files : mapping
        From an option, such as ``"--json"``, to the path given to it; None where there is none.

    Returns
    -------
    dict
        From each option that has a path to its `Target`.

    Raises
    ------
    TargetError
        If a file cannot be written, if two options name the same file (also by symbolic or hard links), or if standard
        output is redirected to one of the files.
    """
    targets = {option: _target(option, path) for option, path in files.items() if path is not None}
    for (one, first), (other, second) in combinations(targets.items(), 2):
        if first.identity == second.identity:
            raise TargetError(f"{one} and {other}: expected two files, got {first.shown} and {second.shown}, which are the same")
    with contextlib.suppress(OSError):
        output = os.fstat(1)
        for target in targets.values():
            if target.whole and target.identity == (output.st_dev, output.st_ino):
                raise TargetError(f"{target.shown}: expected another file than standard output")
    return targets


def _target(option: str, shown: str) -> Target:
    if not shown:
        raise TargetError(f"{option}: expected a file's path, got ''")
    if shown == "-":
        raise TargetError(f"{option}: expected a file's path, got -")
    try:
        return _resolved(shown)
    except TargetError:
        raise
    except OSError as error:
        raise TargetError(f"{shown}: cannot write there: {error.strerror}") from None
    except ValueError as error:  # a null character, or one that the file system's encoding lacks
        raise TargetError(f"{shown!r}: expected a file's path: {error}") from None


def _resolved(shown: str) -> Target:
    found = _status(shown)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise TargetError(f"{shown}: expected a file, got a directory")
    if os.path.basename(shown) in ("", os.curdir, os.pardir):  # realpath would remove these
        raise TargetError(f"{shown}: expected a file, got a directory's name")
    if found is not None and not os.access(shown, os.W_OK):
        raise TargetError(f"{shown}: expected a writable file")
    if found is not None and not stat.S_ISREG(found.st_mode):
        return Target(shown, os.path.abspath(shown), False, (found.st_dev, found.st_ino))
    path = os.path.realpath(shown)
    folder, name = os.path.split(path)
    above = _status(folder)
    if above is None or not stat.S_ISDIR(above.st_mode):
        raise TargetError(f"{shown}: expected an existing directory, got {folder}")
    with _temporary(folder) as (descriptor, _):
        os.close(descriptor)
    identity = (above.st_dev, above.st_ino, os.path.normcase(name)) if found is None else (found.st_dev, found.st_ino)
    return Target(shown, path, True, identity)


def _status(path: str) -> os.stat_result | None:
    """The status of the file at a path; None if there is none."""
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def as_json(value: Any) -> str:
    """The value as JSON, in which numbers that are infinite or NaN are null."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(inner) for inner in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    return json.dumps(plain(value), indent=2, allow_nan=False)
