"""What a diagnosis says: its verdict, findings, and a line for each layer; as text, HTML, numbers and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from .._common.checks import shown
from .judge import Finding

__all__ = ["Change", "DiagnosedLayer", "Diagnosis"]

_SHOWN = 30  # layers that are all printed; of more, the first and the last ones
_ENDS = 10


@dataclass(frozen=True)
class Change:
    """A total change over the depth, in nats: the natural logarithm of the ratio of two mean squares.

    So n nats are a factor of exp(n) in the squares, and of exp(n / 2) in the size of the numbers.

    Attributes
    ----------
    nats : float
        The median over seeds.
    low, high : float
        An interval for the mean over seeds, `Thresholds.interval` standard errors to both sides; NaN of one seed.
    theory : float
        What mean-field theory expects of wide layers; NaN where it has nothing for these weights.
    each : tuple of float
        Of each seed.
    not_judged : str
        Why there is no number, in words; "" where there is one.
    """

    nats: float
    low: float
    high: float
    theory: float
    each: tuple[float, ...] = field(repr=False)
    not_judged: str = field(default="", repr=False)


@dataclass(frozen=True)
class DiagnosedLayer:
    """One layer's numbers, medians over seeds.

    Attributes
    ----------
    layer : int or str
        0 for the one that reads the input; the qualified name in a framework's model.
    inputs, units : int
    activation : str
        In a framework's model the class of the layer, unless it is an activation function.
    rms, rms_theory : float
        Root mean square of the pre-activations, and what theory expects; NaN where it expects nothing.
    gradient_rms, gradient_theory : float
        The same of the gradients with respect to them, for a gradient of standard normals at the output; theory's curve begins
        at the last layer's number.
    saturated, dead : float
        Shares in [0, 1] of elements and of units, as in `LayerReport`.
    cosine, cosine_theory : float
        Mean cosine of two samples' pre-activations, and what theory expects.
    gradient_to_weight : float
        Norm of the weight's gradient by the norm of the weight; NaN where the weight is 0 or not stored. The gradient is that
        of the made-up gradient at the output, summed over the batch: only its course over the layers says something.
    entropy : float
        In a framework's model, of attention: the mean entropy of a query's weights by ln of how many keys it may see, 1 where it
        looks at all of them alike and 0 where at one alone; NaN of other layers.
    branch : float
        In a framework's model, of a layer that ends a residual branch: the branch's root mean square by that of the stream
        that it is added to; NaN of other layers.
    """

    layer: int | str
    inputs: int
    units: int
    activation: str
    rms: float
    rms_theory: float
    gradient_rms: float
    gradient_theory: float
    saturated: float
    dead: float
    cosine: float
    cosine_theory: float
    gradient_to_weight: float
    entropy: float = math.nan
    branch: float = math.nan


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Whether a network will train from its start: made by `diagnose` of `fastinit`, `fastinit.torch` and `fastinit.jax`.

    ``print`` shows a line for each layer, shortened beyond 30, and the verdict with its reasons; a notebook shows it as HTML.
    docs/diagnosis.md explains every column.

    Attributes
    ----------
    verdict : str
        The name of the first finding of severity "fail", else of the first warning, else "healthy".
    findings : tuple of Finding
        In the order of `fastinit.diagnosis.VERDICTS`.
    layers : tuple of DiagnosedLayer
    forward, backward : Change
        Of the pre-activations from the first layer to the last (of the stream, in a residual network), and of the gradients
        from the last layer to the first: above 0 they grow on their way, below 0 they shrink.
    initial_loss : float
        Mean cross-entropy in nats of the outputs as logits; NaN of fewer than two outputs. Of a framework's model the loss that
        was given, if it is no cross-entropy.
    uniform_loss : float
        ln C for C outputs: the loss of one who has no opinion; NaN where there are no classes.
    margins : dict of str to (float, float)
        For each verdict with a threshold what was measured, and above which number it is a finding, a warning at first.
    seeds, batch : int
        How many networks and samples were looked at.
    widths : tuple of int
        Of the input and of each layer; of a framework's model, of each layer alone.
    title : str
        The network in a few words.
    borderline : bool
        Whether other seeds may be judged otherwise: an interval of the changes reaches over a threshold of exploding or
        vanishing, and no failure of another kind decides.
    """

    verdict: str
    findings: tuple[Finding, ...]
    layers: tuple[DiagnosedLayer, ...]
    forward: Change
    backward: Change
    initial_loss: float
    uniform_loss: float
    margins: dict[str, tuple[float, float]]
    seeds: int
    batch: int
    widths: tuple[int, ...]
    title: str
    borderline: bool = False

    @property
    def healthy(self) -> bool:
        """Whether there is no finding at all."""
        return not self.findings

    def assert_healthy(self, *, warnings: bool = True) -> None:
        """Raise an AssertionError with the whole text unless the verdict is "healthy".

        Parameters
        ----------
        warnings : bool, default True
            Whether a finding of severity "warn" is one too many.
        """
        if any(warnings or finding.severity == "fail" for finding in self.findings):
            raise AssertionError(str(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dict of values that JSON has; NaN and infinities are None, initializers their repr."""
        numbers: dict[str, Any] = _plain({
            "verdict": self.verdict, "borderline": self.borderline, "title": self.title, "widths": self.widths,
            "seeds": self.seeds, "batch": self.batch, "findings": [vars(finding) for finding in self.findings],
            "forward": asdict(self.forward), "backward": asdict(self.backward), "initial_loss": self.initial_loss,
            "uniform_loss": self.uniform_loss, "margins": self.margins, "layers": [asdict(layer) for layer in self.layers],
        })  # fmt: skip
        return numbers

    def __repr__(self) -> str:
        return f"<Diagnosis of {self.title}: {self.verdict}>"

    def __str__(self) -> str:
        rows = self._rows()
        if len(self.layers) > _SHOWN:
            hidden = len(self.layers) - 2 * _ENDS
            rows[1 + _ENDS : -_ENDS] = [(f"... {hidden} more", *[""] * (len(rows[0]) - 1))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *table, "", *self._summary()])

    def _rows(self) -> list[tuple[str, ...]]:
        """The table and its head, with those columns of models in which there is a number."""
        more = [name for name in ("entropy", "branch") if not all(math.isnan(getattr(layer, name)) for layer in self.layers)]
        cells = [_cells(layer) + tuple(_number(getattr(layer, name)) for name in more) for layer in self.layers]
        return [(*_HEAD, *more), *cells]

    def _summary(self) -> list[str]:
        lines = [f"forward   {_change(self.forward)}", f"backward  {_change(self.backward)}"]
        if any(isinstance(layer.layer, str) for layer in self.layers):
            lines.append(f"          {_WORDS}")
        is_entropy = not math.isnan(self.uniform_loss)
        if math.isfinite(self.initial_loss) and ("over-confident head" in self.margins or not is_entropy):  # of logits, or given
            loss = f"{self.initial_loss:.3f}" if self.initial_loss < 1e6 else f"{self.initial_loss:.3g}"
            classes = f", ln {math.exp(self.uniform_loss):.0f} = {self.uniform_loss:.3f}" if is_entropy else ""
            lines.append(f"loss      {loss} at first{classes}")
        borderline = ", borderline: other seeds may be judged otherwise" * self.borderline
        lines.append(f"verdict   {self.verdict}{borderline}{self._not_judged()}")
        for finding in self.findings:
            where = "" if finding.layer is None else f", layer {finding.layer}"
            lines.append(f"  {finding.severity}: {finding.name}{where}: {finding.reason}")
            if finding.recommendation:
                lines.append(f"        try {finding.recommendation}")
        if not self.findings:
            far = ", ".join(f"{name} {value:.3g} ({limit:.3g})" for name, (value, limit) in self.margins.items())
            lines.append(f"  measured, and in brackets where a warning or a failure would begin: {far}")
        return lines

    def _not_judged(self) -> str:
        """What the verdict does not know of, which a model without roles may hide."""
        reasons = {way: change.not_judged for way, change in (("forward", self.forward), ("backward", self.backward))}
        ways = [way for way, reason in reasons.items() if reason]
        return f"; {' and '.join(ways)} change{'s' * (len(ways) > 1)} not judged: {reasons[ways[-1]]}" if ways else ""

    def _repr_html_(self) -> str:
        """The same as a table and a list, for notebooks."""
        rows = self._rows()
        head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
        summary = "\n".join(escape(line) for line in self._summary())
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"<p>{escape(self.title)}</p><pre style='white-space: pre-wrap'>{summary}</pre>{table}"

    def plot(self, axes: Any = None) -> Any:
        """Draw the layers' root mean squares, forward and backward, measured and expected; needs matplotlib.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw; a new figure's by default.

        Returns
        -------
        matplotlib.axes.Axes
            Whose ``.figure.savefig("layers.png")`` writes the picture; a notebook shows ``.figure`` as the last line of a cell.
        """
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(figsize=(7, 4), layout="constrained").add_subplot()
        numbers = range(len(self.layers))
        for name, colour, label in (("rms", "#2f7fd0", "pre-activations"), ("gradient", "#e0702a", "gradients")):
            measured = [getattr(layer, "rms" if name == "rms" else "gradient_rms") for layer in self.layers]
            theory = [getattr(layer, f"{name}_theory") for layer in self.layers]
            axes.plot(numbers, _positive(measured), color=colour, marker=".", label=label)
            if any(not math.isnan(value) for value in theory):
                axes.plot(numbers, _positive(theory), color=colour, linestyle="--", label=f"{label}, theory")
        axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("layer, input → output")
        axes.set_ylabel("root mean square")
        axes.set_title(f"{self.title}: {self.verdict}")
        axes.legend()
        return axes


_HEAD = ("layer", "units", "z rms", "theory", "grad rms", "theory", "saturated", "dead", "cosine", "theory", "|dW|/|W|")

_WORDS = "(nats: the natural logarithm of how a mean square changes; of one role: layers whose names differ in numbers alone)"


def _cells(layer: DiagnosedLayer) -> tuple[str, ...]:
    name = f"{layer.layer}"
    if isinstance(layer.layer, str) and not name.partition("#")[0].endswith(f"/{layer.activation}"):
        name += f" {layer.activation}"
    return (
        name, f"{layer.units}", _number(layer.rms), _number(layer.rms_theory), _number(layer.gradient_rms),
        _number(layer.gradient_theory), _number(layer.saturated, ".1%"), _number(layer.dead, ".1%"),
        _number(layer.cosine, ".4f"), _number(layer.cosine_theory, ".4f"), _number(layer.gradient_to_weight),
    )  # fmt: skip


def _number(value: float, form: str = ".3g") -> str:
    return "-" if math.isnan(value) else format(value, form)


def _change(change: Change) -> str:
    if not change.each:
        return "not judged"
    if not math.isfinite(change.nats):
        return "no number: a mean square is 0 or not finite"
    text = f"{change.nats:+.2f} nats"
    if abs(change.nats) < 1000:
        text += f" ({math.exp(change.nats / 2):.3g} times the size)"
    if not math.isnan(change.low):
        text += f", mean of seeds in [{change.low:+.2f}, {change.high:+.2f}]"
    return text + (f", theory {change.theory:+.2f}" if math.isfinite(change.theory) else "")


def _positive(values: Sequence[float]) -> list[float]:
    """For a logarithmic axis: what has no logarithm is left out."""
    return [value if 0 < value < math.inf else math.nan for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if not isinstance(value, (str, int, float, type(None))):
        return shown(value)  # an initializer, an array
    return None if isinstance(value, float) and not math.isfinite(value) else value
