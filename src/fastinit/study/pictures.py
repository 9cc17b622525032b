"""The plots of the study as SVG inside a page, in a style of their own whatever the user's matplotlib is set to."""

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

# Colours that tell lines apart on white and on black, and for the colour-blind.
_COLOURS = ("#2f7fd0", "#e0702a", "#2fa37c", "#c65a9e", "#9a7b1f", "#7d6ad6")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def import_matplotlib() -> None:
    """Import matplotlib for a process that draws nothing but these pictures: not for the backend of a notebook that the process
    was started from, which may not be installed here, nor with the user's settings, which may be broken."""
    import importlib.util

    spec = importlib.util.find_spec("matplotlib")
    folders = spec.submodule_search_locations if spec is not None else None
    defaults = os.path.join(folders[0], "mpl-data", "matplotlibrc") if folders else ""
    own = {"MPLBACKEND": "svg", "MATPLOTLIBRC": defaults}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
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
def _own_style(salt: str) -> Iterator[None]:
    """Matplotlib's own defaults in place of the user's, which come back."""
    import matplotlib

    style: dict[str, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    # A fixed salt makes the identifiers, and with them the file, the same on every run.
    style |= {"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 10}
    with matplotlib.rc_context(style):  # type: ignore[arg-type, unused-ignore]
        yield


def picture(plot: Plot) -> str:
    """A plot as inline SVG whose ink is the page's own colour."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _own_style(plot.title):
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
    # Links inside one document must be unique among all figures of the page.
    prefix = "f" + re.sub(r"\W", "", plot.title)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href="|href=")#([^"]+)"', rf'\1#{prefix}-\2"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r"#000000\b", "currentColor", svg)
    svg = svg.replace("<text ", '<text fill="currentColor" ')
    # Namespaces need no declaration inside HTML, and would be the page's only addresses.
    svg = re.sub(r'\s(?:xmlns(?::\w+)?)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    title = escape(plot.title)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return f"<figure>{svg}<figcaption>{title}</figcaption></figure>"
