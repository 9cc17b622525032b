"""How often `fastinit.diagnose` is wrong: `python -m bench.diagnosis [--trained] [--seed N] [--count N]`.

The first part draws settings whose truth mean-field theory knows and compares verdicts. The truth is worked out here from the
laws of the weights alone, by `fastinit.theory`; the diagnosis looks at networks that were drawn.
The second part trains networks on handwritten digits with several optimizers and compares a verdict that fails with an
accuracy below 0.7 (some minutes; docs/diagnosis.md has the figures of the whole). Every disagreement is printed. The exit status
is 1 above the errors that are allowed: of a verdict, false alarms or misses in 3 % of all settings; of trained networks, 8 %
false alarms or 4 % misses.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastinit
from fastinit import theory
from fastinit.diagnosis import VERDICTS, Thresholds

ACTIVATIONS = (
    "linear", "tanh", "sigmoid", "relu", "leaky_relu", "hard_tanh", "elu", "selu", "softplus", "softsign", "gelu", "gelu_tanh",
    "silu", "mish", "sin",
)  # fmt: skip
DEPTHS = (5, 10, 20, 30, 50, 100, 200)
WIDTHS = (16, 32, 64, 128, 256, 512, 1000)
STARTS = (
    "zeros", "constant", "orthogonal", "glorot_normal", "glorot_uniform", "he_normal", "lecun_normal", "critical", "small",
    "large",
)  # fmt: skip
BATCH = 32
LIMITS = Thresholds()


@dataclass(frozen=True)
class Setting:
    """One description of networks."""

    activation: str
    depth: int
    width: int
    start: str
    residual: bool
    dtype: str

    @property
    def weights(self) -> Any:
        """The initializer, and the biases'."""
        match self.start:
            case "constant":
                return fastinit.Constant(0.5 / self.width)
            case "orthogonal":
                return fastinit.Orthogonal()
            case "critical":
                return self._critical()[0]
            case "small":
                return fastinit.RandomNormal(0.0, 0.01)
            case "large":
                return fastinit.VarianceScaling(9.0, "fan_in", "normal")
        return fastinit.get(self.start)

    @property
    def biases(self) -> Any:
        return self._critical()[1] if self.start == "critical" else fastinit.Zeros()

    def _critical(self) -> tuple[Any, Any]:
        """At the first of some bias variances that has a critical point; He's where none has."""
        for bias_variance in (0.0, 0.05, 0.2, 0.6):
            try:
                start = fastinit.CriticalNormal(self.activation, bias_variance)
            except ValueError:
                continue
            return start, start.biases
        return fastinit.HeNormal(), fastinit.Zeros()

    def diagnosis(self, key: fastinit.Key) -> fastinit.Diagnosis:
        options: dict[str, Any] = {"residual": 2, "alpha": 1.0} if self.residual else {}
        return fastinit.diagnose(
            [self.width] * (self.depth + 1), self.activation, weights=self.weights, biases=self.biases, batch=BATCH,
            dtype=self.dtype, key=key, recommend=False, **options,
        )  # fmt: skip

    # ---- the truth ----

    def truth(self) -> str:
        """The verdict that theory gives, by the diagnosis' thresholds and order of precedence."""
        if self.start == "zeros":
            return "no signal"  # every z is 0
        if self.start == "constant":
            return "symmetric"
        found = {}
        weight_variance = self.width * self.weights.variance((self.width, self.width))
        bias_variance = self.biases.variance((1,)) if isinstance(self.biases, fastinit.RandomNormal) else 0.0
        curve = (self._residual if self.residual else self._plain)(weight_variance, bias_variance)
        # ln of the largest and smallest squares that the numbers of the dtype have; in float64 the squares themselves end.
        most, least = (177.0, -206.0) if self.dtype == "float32" else (1419.0, -744.0)
        if max(curve.forward.max(), curve.backward.max()) > most:
            return "non-finite"
        if min(curve.forward.min(), curve.backward.min()) < least:
            return "no signal"
        forward, backward = curve.forward[-1] - curve.forward[0], curve.backward[-1] - curve.backward[0]
        for name, size, (warn, fail) in (
            ("exploding", max(forward, backward), LIMITS.exploding),
            ("vanishing", -min(forward, backward), LIMITS.vanishing),
            ("rank collapse", curve.collapse, LIMITS.rank_collapse),
        ):
            if size > warn:
                found[name] = "fail" if size > fail else "warn"
        flat = {"tanh": 2.0895, "sigmoid": 4.179, "hard_tanh": 1.0, "softsign": 1 / math.sqrt(0.0591) - 1}.get(self.activation)
        if flat is not None and np.mean([math.erfc(flat / math.sqrt(2 * q)) for q in curve.variances]) > LIMITS.saturated:
            found["saturated"] = "fail"
        if self.activation in ("relu", "leaky_relu") and not self.residual and self.depth * 5 / self.width > LIMITS.narrow:
            found["narrow"] = "warn"
        if self.activation == "linear":
            fair, q = math.log(self.width), math.exp(curve.forward[-1])
            # Of normal logits; above 2 ln C the largest of them is the whole sum (Derrida's random energy model).
            loss = fair + q / 2 if q < 2 * fair else math.sqrt(2 * q * fair)
            if loss > fair + LIMITS.initial_loss[0]:
                found["over-confident head"] = "fail" if loss > LIMITS.initial_loss[1] * fair else "warn"
        for severity in ("fail", "warn"):
            for name in VERDICTS:
                if found.get(name) == severity:
                    return name
        return "healthy"

    def _plain(self, weight_variance: float, bias_variance: float) -> Curve:
        """The logarithms of finite layers lie below those of wide ones by half of their variance."""
        q = weight_variance + bias_variance  # of inputs of variance 1
        found = theory.profile(
            self.depth, self.activation, weight_variance, bias_variance, q=q, c=bias_variance / q, width=self.width, batch=BATCH,
            orthogonal=self.start == "orthogonal",
        )  # fmt: skip
        forward = found.forward - found.forward_std**2 / 2
        backward = (found.backward - found.backward_std**2 / 2)[::-1]
        collapse = math.log(found.distances[0] / max(found.distances[-1], 1e-7))
        return Curve(math.log(q) + forward, backward, list(found.variances), collapse)

    def _residual(self, weight_variance: float, bias_variance: float) -> Curve:
        """Blocks of two layers with alpha = 1: p' = p + E b^2 + 2 mu E b, mu' = mu + E b, b being what the branch gives."""
        phi, derivative = theory.function(self.activation), theory.slope(self.activation)
        p, mu = 1.0, 0.0
        forward, growth, variances = [0.0], [], []
        for _ in range(self.depth // 2):
            inner = weight_variance * p + bias_variance
            outer = theory.variance_map(self.activation, inner, weight_variance, bias_variance)
            mean = theory.expectation(phi, outer)
            square = theory.expectation(lambda z: phi(z) ** 2, outer)
            gain = theory.expectation(lambda z: derivative(z) ** 2, outer)
            branch = weight_variance * gain * theory.chi_1(self.activation, inner, weight_variance)
            growth.append((gain, 1 + branch))
            variances += [inner, outer]
            p, mu = p + square + 2 * mu * mean, mu + mean
            forward.append(math.log(p))
            if not p < 1e300:
                break
        backward = [0.0]
        for _, factor in growth[:0:-1]:
            backward.append(backward[-1] + math.log(factor))
        backward[-1] += math.log(growth[0][0] / growth[-1][0])  # with respect to z, at the ends of the first and last block
        return Curve(np.array(forward), np.array(backward), variances, 0.0)


@dataclass(frozen=True)
class Curve:
    """ln of the mean squares forward, and of the gradients' from the last layer back; variances of z; how samples collapse."""

    forward: Any
    backward: Any
    variances: list[float]
    collapse: float


def settings(seed: int, count: int) -> Iterator[Setting]:
    """Drawn at random, but none of the largest, and none of more than two layers a unit: theory is of first order in that."""
    draw = np.random.default_rng([14, seed])
    made = 0
    while made < count:
        activation, start = draw.choice(ACTIVATIONS), draw.choice(STARTS)
        depth, width = int(draw.choice(DEPTHS)), int(draw.choice(WIDTHS))
        residual, dtype = bool(draw.random() < 0.2), str(draw.choice(["float32", "float64"]))
        if depth * width * width > 5e7 or depth > 2 * width or (residual and depth % 2):
            continue
        if start == "constant" and (depth > 100 or residual):
            continue
        made += 1
        yield Setting(str(activation), depth, width, str(start), residual, dtype)


def against_theory(seed: int, count: int) -> bool:
    """Print every disagreement and the sums; returns whether no verdict is wrong too often."""
    false, missed, truths = Counter(), Counter(), Counter()
    begin = time.perf_counter()
    for i, setting in enumerate(settings(seed, count)):
        truth = setting.truth()
        found = setting.diagnosis(fastinit.Key(seed) / "theory" / f"{i}")
        truths[truth] += 1
        if found.verdict != truth:
            false[found.verdict] += 1
            missed[truth] += 1
            print(
                f"{setting}: theory {truth}, verdict {found.verdict}{' (borderline)' * found.borderline}; "
                f"forward {found.forward.nats:.2f} [{found.forward.theory:.2f}], backward {found.backward.nats:.2f} "
                f"[{found.backward.theory:.2f}], seeds {found.seeds}"
            )
    print(f"\nverdict              of {count:>4}   false alarms   misses   ({time.perf_counter() - begin:.0f} s)")
    for name in (*VERDICTS, "healthy"):
        if truths[name] or false[name]:
            print(f"{name:<20}{truths[name]:>8}{false[name]:>15}{missed[name]:>9}")
    return max((*false.values(), *missed.values()), default=0) <= 0.03 * count


def networks(seed: int, count: int) -> Iterator[tuple[Setting, fastinit.Key]]:
    """Networks small enough to be trained many times."""
    draw = np.random.default_rng([15, seed])
    starts = [start for start in STARTS if start != "zeros"]
    for i in range(count):
        depth = int(draw.choice([5, 10, 20, 30, 40]))
        residual = bool(draw.random() < 0.2)
        activation, start = str(draw.choice(ACTIVATIONS)), str(draw.choice(starts))
        setting = Setting(activation, depth + depth % 2 * residual, 64, start, residual, "float32")
        yield setting, fastinit.Key(seed) / "trained" / f"{i}"


def digits() -> tuple[Any, Any, Any, Any]:
    """Training and held-out samples of the handwritten digits, each feature about 0, of mean square 1 on the whole."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x - x.mean(axis=0)
    x = (x / np.sqrt((x * x).mean())).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    held, train = order[:360], order[360:]
    return x[train], y[train], x[held], y[held]


def stack_of(setting: Setting, key: fastinit.Key) -> fastinit.Stack:
    """A network of 64 pixels, equal hidden layers and ten linear outputs, whose last layer is Glorot's."""
    options: dict[str, Any] = {"residual": 2, "alpha": 1.0} if setting.residual else {}
    return fastinit.Stack(
        [64] * (setting.depth + 1) + [10], [setting.activation] * setting.depth + ["linear"],
        weights=[setting.weights] * setting.depth + ["glorot_uniform"],
        biases=[setting.biases] * setting.depth + ["zeros"], key=key, **options,
    )  # fmt: skip


OPTIMIZERS = {
    "SGD(0.1)": lambda: fastinit.SGD(0.1), "Momentum(0.01)": lambda: fastinit.Momentum(0.01),
    "Adam(0.001)": lambda: fastinit.Adam(0.001),
}  # fmt: skip


def best_accuracy(setting: Setting, key: fastinit.Key, data: Any, epochs: int) -> tuple[float, str]:
    """The highest accuracy on held-out digits after any epoch with any optimizer, and with which."""
    best = (0.0, "")
    for name, optimizer in OPTIMIZERS.items():
        stack = stack_of(setting, key)
        x, y, held, labels = data
        history = fastinit.fit(
            stack, x, y, optimizer=optimizer(), epochs=epochs, batch_size=64, validation=(held, labels), key=key / "order",
        )  # fmt: skip
        best = max(best, (max(history.validation_accuracy), name))
        if best[0] > 0.9:  # far above the line: no other optimizer changes the answer
            break
    return best


def against_training(seed: int, count: int, epochs: int = 20) -> bool:
    """Print every network and the sums; returns whether neither error is too frequent."""
    data = digits()
    false = missed = bad = 0
    for setting, key in networks(seed, count):
        accuracy, optimizer = best_accuracy(setting, key, data, epochs)
        found = fastinit.diagnose(stack_of(setting, key), x=data[0][:32], labels=data[1][:32], recommend=False)
        alarm = any(finding.severity == "fail" for finding in found.findings)
        bad += accuracy < 0.7
        false += alarm and accuracy >= 0.7
        missed += not alarm and accuracy < 0.7
        mark = "" if alarm == (accuracy < 0.7) else "FALSE ALARM " if alarm else "MISSED "
        others = {name: value for name, (value, _) in found.margins.items() if name not in ("exploding", "vanishing")}
        print(
            f"{mark}{setting.activation} {setting.depth} {setting.start}{' residual' * setting.residual}: {accuracy:.2f} "
            f"({optimizer}), {found.verdict}{' fails' * alarm}, forward {found.forward.nats:.1f}, "
            f"backward {found.backward.nats:.1f}; {', '.join(f'{name} {value:.2f}' for name, value in others.items())}",
            flush=True,
        )
    print(f"{count} networks, {bad} below 0.7: {false} false alarms, {missed} misses")
    return bool(false <= 0.08 * count and missed <= 0.04 * count)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.diagnosis", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--trained", action="store_true", help="train networks, in place of the comparison with theory")
    parser.add_argument("--count", type=int, metavar="N", help="settings (default: 200), or networks (default: 100)")
    options = parser.parse_args()
    if options.trained:
        return 0 if against_training(options.seed, options.count or 100) else 1
    return 0 if against_theory(options.seed, options.count or 200) else 1


if __name__ == "__main__":
    sys.exit(main())
