"""The study: claims of a text on weight initialisation, each measured and given a verdict.

May import: _common, _stream, theory, initializers, _engine, _training, _core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .claims_keras import FRAMEWORKS
from .claims_linear import LINEAR
from .claims_named import NAMED
from .claims_rules import RULES
from .claims_scale import SCALE
from .claims_symmetry import SYMMETRY
from .rows import Check, Claim, Measurement, Plot, Result, run_claim
from .settings import Settings

__all__ = ["CLAIMS", "Check", "Claim", "Measurement", "Plot", "Result", "Settings", "run", "run_claim"]

CLAIMS: tuple[Claim, ...] = tuple(
    sorted((*SYMMETRY, *SCALE, *LINEAR, *RULES, *NAMED, *FRAMEWORKS), key=lambda claim: claim.number)
)


def run(
    settings: Settings,
    claims: Sequence[Claim] | None = None,
    progress: Callable[[Claim, Result | None], None] | None = None,
) -> list[Result]:
    """Measure claims in order.

    Parameters
    ----------
    settings : Settings
        Seed and size of the networks.
    claims : sequence of Claim, optional
        All of them by default.
    progress : function, optional
        Called as ``progress(claim, None)`` before a claim is measured and ``progress(claim, result)`` after it.

    Returns
    -------
    list of Result
        One for each claim. An error in a measurement is not raised: its result does not match.

    Examples
    --------
    >>> results = run(Settings(quick=True), claims=CLAIMS[:1])
    >>> results[0].verdict
    'half true'
    """
    results = []
    for claim in CLAIMS if claims is None else claims:
        if progress is not None:
            progress(claim, None)
        result = run_claim(claim, settings)
        results.append(result)
        if progress is not None:
            progress(claim, result)
    return results
