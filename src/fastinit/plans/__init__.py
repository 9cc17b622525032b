"""Plans: how every parameter of a whole model begins, by name.

May import: _common, _stream, initializers, residual, _core.
"""

from . import recipes
from .audit import Audit, Finding, audit
from .checkpoint import write
from .difference import Change, Difference, difference, recipe_difference
from .parameters import Parameter, parameters_of
from .parts import Spelling
from .plan import Plan
from .receipt import Receipt, Record
from .recipes import *  # noqa: F403
from .rule import Rule
from .table import Row, Table

__all__ = [
    "Audit", "Change", "Difference", "Finding", "Parameter", "Plan", "Receipt", "Record", "Row", "Rule", "Spelling", "Table",
    "audit", "difference", "parameters_of", "recipe_difference", "write",
]  # fmt: skip
__all__ += recipes.__all__
