"""Plots activations and gradients by layer in networks of fifty layers, for five initialisations.

    python examples/depth.py [FILE.svg]

Each line is one forward and backward pass of a batch of 128 through 50 layers of 256 units. Needs matplotlib.
"""

from __future__ import annotations

import sys

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

import fastinit
from fastinit import Key, RandomNormal, Stack

DEPTH, WIDTH, BATCH = 50, 256, 128
# Name, activation, weights, colour (of the Okabe-Ito palette, which colour-blind readers can distinguish)
INITIALISATIONS = (
    ("ReLU, He", "relu", "he_normal", "#0072B2"),
    ("ReLU, Glorot", "relu", "glorot_normal", "#56B4E9"),
    ("tanh, Glorot", "tanh", "glorot_normal", "#009E73"),
    ("tanh, too small", "tanh", RandomNormal(0.0, 0.04), "#E69F00"),
    ("tanh, too large", "tanh", RandomNormal(0.0, 0.12), "#D55E00"),
)


def curves(activation: str, weights: object) -> tuple[list[float], list[float]]:
    """Root mean squares by layer: of the activations, and of the gradient with respect to the pre-activations."""
    stack = Stack((WIDTH,) * (DEPTH + 1), activation, weights=weights, key=Key(0))
    report = stack.propagate(fastinit.normal((BATCH, WIDTH), key=Key(1)))
    activations = [layer.activation.second_moment**0.5 for layer in report.layers]
    gradients = [layer.gradient.second_moment**0.5 for layer in report.layers]
    return activations, gradients


def figure() -> Figure:
    """Two plots side by side: activations forward, gradients backward."""
    drawing = Figure(figsize=(9.6, 3.2), layout="constrained", facecolor="white")
    FigureCanvasSVG(drawing)
    left, right = drawing.subplots(1, 2, sharey=True)
    layers = range(1, DEPTH + 1)
    for name, activation, weights, colour in INITIALISATIONS:
        for axes, values in zip((left, right), curves(activation, weights), strict=True):
            axes.plot(layers, values, color=colour, linewidth=2, label=name)
    left.set_title("forward: activations", fontsize=11)
    right.set_title("backward: gradients, from the output on the right", fontsize=11)
    left.set_ylabel("root mean square")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_ylim(1e-9, 1e5)
        axes.set_xlabel("layer, input → output")
        axes.set_xlim(1, DEPTH)
        axes.grid(alpha=0.25)
    right.legend(fontsize=9, frameon=False, loc="upper right")
    return drawing


def main() -> None:
    with matplotlib.rc_context({"svg.hashsalt": "fastinit", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure().savefig(sys.argv[1] if len(sys.argv) > 1 else "depth.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
