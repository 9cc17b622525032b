"""The plots of the study as inline SVG, in one style whatever the user's matplotlib settings."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from collections.abc import Iterator
from html import escape
from typing import Any

from .rows import Plot

__all__ = ["import_matplotlib", "picture"]

# Colours that can be distinguished on white, on black, and by colour-blind readers.
_COLOURS = ("#2f7fd0", "#e0702a", "#2fa37c", "#c65a9e", "#9a7b1f", "#7d6ad6")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def import_matplotlib() -> None:
    """Import matplotlib with its default settings and the SVG backend.

    The environment may name the backend of a notebook, which need not be installed here, and a settings file, which
    may be broken: either would make the import fail.
    """
    import importlib.util

    spec = importlib.util.find_spec("matplotlib")
    folders = spec.submodule_search_locations if spec is not None else None
    defaults = os.path.join(folders[0], "mpl-data", "matplotlibrc") if folders else ""
    wanted = {"MPLBACKEND": "svg", "MATPLOTLIBRC": defaults}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _default_style(salt: str) -> Iterator[None]:
    """Use matplotlib's default settings, then restore the user's."""
    import matplotlib

    style: dict[str, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    # A fixed salt makes the identifiers, and with them the file, the same on every run.
    style |= {"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 10}
    with matplotlib.rc_context(style):  # type: ignore[arg-type, unused-ignore]
        yield


def picture(plot: Plot) -> str:
    """A plot as inline SVG; axes and text have the colour of the page's text."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _default_style(plot.title):
        figure = Figure(figsize=(6.0, 3.5), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for (label, x, y), colour, dash in zip(plot.series, _COLOURS, _DASHES, strict=False):
            points = [
                (a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b) and (b > 0 or not plot.log_y)
            ]
            axes.plot(
                [p[0] for p in points], [p[1] for p in points], label=label, color=colour, linestyle=dash,
                marker="o" if len(points) <= 40 else None, markersize=3, linewidth=1.6,
            )  # fmt: skip
        if plot.log_y:
            axes.set_yscale("log")
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        axes.grid(alpha=0.25)
        if len(plot.series) > 1:
            axes.legend(fontsize=9, framealpha=0)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # Identifiers must be unique on the page, which has several figures.
    prefix = "f" + re.sub(r"\W", "", plot.title)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href="|href=")#([^"]+)"', rf'\1#{prefix}-\2"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r"#000000\b", "currentColor", svg)
    svg = svg.replace("<text ", '<text fill="currentColor" ')
    # HTML needs no namespace declarations; they would be the only web addresses in the page.
    svg = re.sub(r'\s(?:xmlns(?::\w+)?)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    title = escape(plot.title)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return f"<figure>{svg}<figcaption>{title}</figcaption></figure>"
