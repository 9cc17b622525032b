"""The command ``fastinit plan``: read a plan, compare sources, write a checkpoint, audit one."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import plans
from .._stream.keys import Key
from ..plans.shapes import read_shapes
from .outputs import decide
from .terminal import Stopped, checked, progress_bar, status_of

__all__ = ["RUN", "add_parsers"]

_PLAN = "a plan as .json or .toml, or a recipe such as gpt2 or llama:torchtitan"
_SHAPES = "shapes by name as JSON, a safetensors file or directory, or the config.json of Transformers"
_RECEIPT = "fastinit-receipt.jsonl"


def add_parsers(commands: Any, seed: Callable[[str], int]) -> None:
    """Declare the command; `seed` parses a seed."""
    plan = commands.add_parser(
        "plan",
        help="how a whole model begins: read it, compare it, write it, audit it",
        description="Plans say by name how every parameter of a model begins. docs/plans.md explains them. Exit status: 0; of an "
        "audit 1 if something differs; 2 on a wrong use.",
    )
    actions = plan.add_subparsers(dest="action", required=True, metavar="action")

    table = actions.add_parser("table", help="print what a plan would draw: shapes, laws, standard deviations")
    table.add_argument("plan", metavar="PLAN", help=_PLAN)
    table.add_argument("--shapes", required=True, metavar="PATH", help=_SHAPES)
    _with_options(table)
    table.add_argument("--as", dest="form", choices=("table", "json", "toml"), default="table", help="or the plan as a document")

    diff = actions.add_parser("diff", help="print in which tensors sources of an architecture begin differently")
    diff.add_argument("architecture", choices=tuple(plans.RECIPES), metavar="ARCHITECTURE", help=", ".join(plans.RECIPES))
    diff.add_argument("first", metavar="SOURCE", help="such as transformers; a wrong one lists all")
    diff.add_argument("others", nargs="+", metavar="SOURCE", help="each is compared with the first")
    diff.add_argument("--shapes", metavar="PATH", help=_SHAPES + " (default: a small model)")
    _with_options(diff)

    write = actions.add_parser("write", help="write a model's start as safetensors files, without holding it in memory")
    write.add_argument("plan", metavar="PLAN", help=_PLAN)
    write.add_argument("--shapes", required=True, metavar="PATH", help=_SHAPES)
    _with_options(write)
    write.add_argument("--out", required=True, metavar="DIR", help="an empty or new directory, or one of an interrupted write")
    write.add_argument("--dtype", metavar="DTYPE", help="of all tensors, such as bfloat16 (default: as the shapes say)")
    write.add_argument("--max-shard-size", metavar="SIZE", help="of a file, such as 5GB (default: one file)")
    write.add_argument("--seed", type=seed, default=0, metavar="N", help="of the key, in [0, 2**64) (default: 0)")
    write.add_argument("--receipt", metavar="FILE", help=f"where the receipt is written (default: {_RECEIPT} in DIR)")

    audit = actions.add_parser("audit", help="say which tensors of a checkpoint are not as a receipt or a plan asks")
    audit.add_argument("model", metavar="PATH", help="a safetensors file, or a directory of them")
    audit.add_argument("--receipt", metavar="FILE", help=f"of the write (default: {_RECEIPT} beside the files, if it is there)")
    audit.add_argument("--plan", metavar="PLAN", help=_PLAN)
    audit.add_argument("--trained", action="store_true", help="the model has been trained: tensors should have moved")
    _with_options(audit)


def _with_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", dest="options", nargs="+", type=_option, default=[], metavar="NAME=NUMBER",
        help="options of a recipe that no shape tells, such as heads=32",
    )  # fmt: skip


def _option(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        equals = ""
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER such as heads=32, got {text!r}")
    return name, int(number) if number.is_integer() and value.lstrip("+-").isdigit() else number


def _read_plan(name: str, model: Any, options: argparse.Namespace) -> plans.Plan:
    """A plan from a file, or a recipe for this model."""
    path, given = Path(name), dict(options.options)
    if path.suffix in (".json", ".toml"):
        if given:
            raise ValueError(f"--set: expected no options for a plan of a file, got {', '.join(given)}")
        text = path.read_text(encoding="utf-8")
        return plans.Plan.from_json(text) if path.suffix == ".json" else plans.Plan.from_toml(text)
    architecture, _, source = name.partition(":")
    if architecture not in plans.RECIPES:
        raise ValueError(f"PLAN: expected a file .json or .toml, or one of {', '.join(plans.RECIPES)}, got {name!r}")
    recipe = plans.RECIPES[architecture].function
    taken = tuple(inspect.signature(recipe).parameters)[1:]  # without the model
    for option in given:
        if option not in taken:
            known = [name for name in taken if name != "source"]
            raise ValueError(f"--set: expected {' or '.join(known) or 'no options'} for {architecture}, got {option}")
    if source:
        given["source"] = source
    try:
        return recipe(model, **given)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None


def _table(options: argparse.Namespace) -> int:
    model = read_shapes(options.shapes)
    plan = _read_plan(options.plan, model, options)
    found = plan.table(model)
    print(found if options.form == "table" else (plan.to_json() if options.form == "json" else plan.to_toml()).rstrip())
    return 0


def _diff(options: argparse.Namespace) -> int:
    model = read_shapes(options.shapes) if options.shapes else None
    texts = [
        str(plans.recipe_difference(options.architecture, options.first, other, model, **dict(options.options)))
        for other in options.others
    ]
    print("\n\n".join(texts))
    return 0


def _write(options: argparse.Namespace) -> int:
    model = read_shapes(options.shapes)
    plan = _read_plan(options.plan, model, options)
    out = Path(options.out)
    targets = decide({"--receipt": options.receipt}) if options.receipt else {}
    try:
        with progress_bar(of_bytes=True) as progress:
            receipt = plans.write(
                model, plan, key=Key(options.seed), path=out, dtype=options.dtype, max_shard_size=options.max_shard_size,
                receipt=targets["--receipt"].path if targets else out / _RECEIPT, progress=progress,
            )  # fmt: skip
    except (KeyboardInterrupt, Stopped) as stop:
        return status_of(stop, [f"a part of {out}; the same command goes on"] if out.is_dir() else ())
    print(f"{len(receipt)} tensors in {out}")
    return 0


def _audit(options: argparse.Namespace) -> int:
    path = Path(options.model)
    beside = (path if path.is_dir() else path.parent) / _RECEIPT
    receipt: Any = options.receipt or (beside if beside.exists() and not options.plan else None)
    plan = _read_plan(options.plan, read_shapes(path), options) if options.plan else None
    found = plans.audit(path, None if receipt is None else plans.Receipt.load(receipt), plan, trained=options.trained)
    print(found)
    return 1 if found.differences else 0


_ACTIONS = {"table": _table, "diff": _diff, "write": _write, "audit": _audit}
RUN = {"plan": checked(lambda options: _ACTIONS[options.action](options))}
