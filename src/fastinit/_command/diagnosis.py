"""The commands ``fastinit diagnose``, ``fastinit theory`` and ``fastinit compare``."""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Callable
from typing import Any

from .._stream.keys import Key
from ..diagnosis import compare, diagnose
from ..theory import (
    chi_1,
    critical_pair,
    fixed_correlation,
    fixed_point,
    forward_gain,
    length_scale,
    phase,
    stability,
    trainable_depth,
    variance_map,
)  # fmt: skip
from .outputs import as_json, decide
from .terminal import checked, progress_bar

__all__ = ["RUN", "add_parsers"]

_PHASES = {
    "ordered": "gradients vanish, and samples become alike",
    "critical": "gradients neither vanish nor explode",
    "chaotic": "gradients explode, and samples that are alike become different",
}
_MOST = 1 << 20  # layers, units, samples, seeds


def add_parsers(commands: Any, seed: Callable[[str], int]) -> None:
    """Declare the three commands; `seed` parses a seed."""
    found = commands.add_parser(
        "diagnose",
        help="say whether a network will train from its start",
        description="Draw networks, run one pass forward and back, and say what keeps them from training, layer by layer, with "
        "what was tried and found better. Exit status: 0, or with --check 1 unless the verdict is healthy; 2 on a wrong use. "
        "docs/diagnosis.md explains what is printed.",
    )
    _network(found, seed)
    found.add_argument("--depth", type=_count, default=20, metavar="L", help="layers (default: %(default)s)")
    found.add_argument(
        "--activation", default="relu", metavar="NAME", help="such as tanh, gelu or leaky_relu(0.2) (default: %(default)s)"
    )
    found.add_argument(
        "--init", default="glorot_uniform", metavar="NAME",
        help="of the weights, as fastinit.get takes it; a wrong name lists all (default: %(default)s)",
    )  # fmt: skip
    found.add_argument("--bias", default="zeros", metavar="NAME", help="of the biases (default: %(default)s)")
    found.add_argument("--inputs", type=_count, metavar="N", help="numbers of a sample (default: the width)")
    found.add_argument("--outputs", type=_count, metavar="N", help="add a linear last layer of so many units")
    found.add_argument("--residual", type=_count, metavar="K", help="residual blocks of so many layers")
    found.add_argument("--alpha", type=float, metavar="A", help="weight of their branches (default: 1)")
    found.add_argument("--json", action="store_true", help="print all numbers as JSON")
    found.add_argument(
        "--check", nargs="?", const="warn", choices=("warn", "fail"), metavar="SEVERITY",
        help="exit status 1 on any finding, with 'fail' only on failures and not on warnings",
    )  # fmt: skip

    theory = commands.add_parser(
        "theory",
        help="what mean-field theory says of an activation",
        description="Print gains and the critical point of an activation and, with --weight-variance, where signals end.",
    )
    theory.add_argument("activation", help="its name, such as tanh, gelu or leaky_relu(0.2)")
    theory.add_argument("--weight-variance", type=float, metavar="V", help="fan_in times the variance of a weight")
    theory.add_argument("--bias-variance", type=float, default=0.0, metavar="V", help="(default: 0)")
    theory.add_argument("--json", action="store_true", help="print all numbers as JSON")

    grid = commands.add_parser(
        "compare",
        help="diagnose a grid of initializers, activations and depths",
        description="Diagnose every initializer with every activation at every depth: a table, and a picture if wanted. The "
        "best start of each activation and depth has a star.",
    )
    _network(grid, seed)
    grid.add_argument("--init", nargs="+", default=["glorot_uniform", "he_normal", "lecun_normal"], metavar="NAME")
    grid.add_argument("--activation", nargs="+", default=["tanh", "relu", "gelu"], metavar="NAME")
    grid.add_argument("--depth", nargs="+", type=_count, default=[5, 10, 20, 50], metavar="L")
    grid.add_argument("--picture", metavar="FILE", help="draw the changes over the depth, as SVG; needs matplotlib")
    grid.add_argument("--json", action="store_true", help="print all numbers as JSON")


def _network(parser: argparse.ArgumentParser, seed: Callable[[str], int]) -> None:
    parser.add_argument("--width", type=_count, default=256, metavar="N", help="units of a layer (default: %(default)s)")
    parser.add_argument("--batch", type=_count, default=32, metavar="N", help="samples (default: %(default)s)")
    parser.add_argument("--seeds", type=_count, metavar="N", help="networks (default: as many as the numbers scatter)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of all of them (default: 0)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(default: %(default)s)")


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= _MOST:  # a list of more widths might take all memory before anything is refused
        raise argparse.ArgumentTypeError(f"expected an int {'>= 1' if value < 1 else f'<= {_MOST}'}, got {text!r}")
    return value


def _diagnose(options: argparse.Namespace) -> int:
    widths = [options.inputs or options.width] + [options.width] * options.depth
    activation: Any = options.activation
    if options.outputs:
        widths.append(options.outputs)
        activation = [options.activation] * options.depth + ["linear"]
    extra = {name: value for name in ("residual", "alpha") if (value := getattr(options, name)) is not None}
    with progress_bar() as progress:
        found = diagnose(
            widths, activation, weights=options.init, biases=options.bias, batch=options.batch, seeds=options.seeds,
            key=Key(options.seed), dtype=options.dtype, progress=progress, **extra,
        )  # fmt: skip
    print(as_json(found.to_dict()) if options.json else found)
    return 1 if any(options.check in ("warn", finding.severity) for finding in found.findings) else 0


def _theory(options: argparse.Namespace) -> int:
    name, bias_variance = options.activation, options.bias_variance
    variance_map(name, 1.0, 1.0 if options.weight_variance is None else options.weight_variance, bias_variance)  # checks them
    numbers: dict[str, Any] = {"activation": name, "bias_variance": bias_variance, "preactivation_gain": forward_gain(name)}
    rows = [("gain that keeps pre-activations at variance 1", f"{numbers['preactivation_gain']:.6g}")]
    critical = f"critical weights at bias variance {bias_variance:g}"
    try:
        weight_variance, q = critical_pair(name, bias_variance)
    except ValueError as error:
        numbers["critical_pair"] = None
        rows.append((critical, f"none: {_needed(str(error))}"))
    else:
        numbers["critical_pair"] = {"weight_variance": weight_variance, "variance": q}
        any_stays = q > 0 and math.isclose(stability(name, q, weight_variance), 1)  # as for ReLU
        rows += [
            (critical, f"variance {weight_variance:.6g} / fan_in"),
            ("  pre-activations stay at variance", "any" if any_stays else f"{q:.6g}"),
        ]
    if options.weight_variance is not None:
        found, lines = _phase(name, options.weight_variance, bias_variance)
        numbers |= found
        rows += lines
    if options.json:
        print(as_json(numbers))
    else:
        width = max(len(what) for what, _ in rows)
        print("\n".join([name, *(f"  {what.ljust(width)}  {value}" for what, value in rows)]))
    return 0


def _needed(error: str) -> str:
    """What `critical_pair` says of a bias variance, as a sentence about an option."""
    expected = error.partition("bias_variance: expected ")[2].rpartition(", got ")[0]
    if expected.startswith("one with"):
        return "no weights are critical beside such biases"
    return f"--bias-variance would have to be {expected}" if expected else error


def _phase(name: str, weight_variance: float, bias_variance: float) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Where signals end for weights and biases of these variances."""
    given = {"phase": phase(name, weight_variance, bias_variance)}
    given["trainable_depth"] = trainable_depth(name, weight_variance, bias_variance)
    numbers: dict[str, Any] = {"weight_variance": weight_variance, **given}
    rows = [
        (f"weights of variance {weight_variance:g} / fan_in", f"{given['phase']}: {_PHASES[given['phase']]}"),
        ("  layers up to which plain networks train, about", _layers(given["trainable_depth"], "3")),
    ]
    try:
        q = fixed_point(name, weight_variance, bias_variance)
    except ValueError:
        return numbers | {"fixed_point": None}, [*rows, ("  pre-activations end at variance", "none: it grows without bound")]
    chi = chi_1(name, q, weight_variance)
    rows += [
        ("  pre-activations end at variance", f"{q:.6g}"),
        ("  gradients' mean square per layer, chi_1", f"times {chi:.6g}"),
    ]
    numbers |= {"fixed_point": q, "chi_1": chi}
    if q > 0:
        c = fixed_correlation(name, q, weight_variance, bias_variance)
        numbers |= {
            "stability": stability(name, q, weight_variance), "fixed_correlation": c,
            "length_scale": length_scale(name, c, q, weight_variance),
        }  # fmt: skip
        rows += [
            ("  distance from that variance per layer", f"times {numbers['stability']:.6g}"),
            ("  two samples end at correlation", f"{c:.6g}"),
            ("  layers for a factor of e towards it, xi_c", _layers(numbers["length_scale"], "6")),
        ]
    return numbers, rows


def _layers(number: float, digits: str) -> str:
    return "any number" if math.isinf(number) else f"{number:.{digits}g}"


def _compare(options: argparse.Namespace) -> int:
    targets = decide({"--picture": options.picture})
    if targets:
        from ..study.pictures import import_matplotlib

        import_matplotlib()
    with progress_bar() as progress:
        found = compare(
            options.init, options.activation, options.depth, options.width, batch=options.batch, seeds=options.seeds,
            key=Key(options.seed), dtype=options.dtype, progress=progress,
        )  # fmt: skip
    for target in targets.values():
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        figure, text = found.plot(), io.StringIO()
        FigureCanvasSVG(figure).print_svg(text)  # type: ignore[no-untyped-call, unused-ignore]
        target.write(text.getvalue())
    print(as_json(found.to_dict()) if options.json else found)
    return 0


RUN = {name: checked(command) for name, command in (("diagnose", _diagnose), ("theory", _theory), ("compare", _compare))}
