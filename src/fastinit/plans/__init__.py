"""Plans: how every parameter of a whole model begins, by name.

May import: _common, _stream, initializers, residual, _core.
"""

from .checkpoint import write
from .parameters import Parameter, parameters_of
from .parts import Spelling
from .plan import Plan
from .receipt import Receipt, Record
from .rule import Rule
from .table import Row, Table

__all__ = ["Parameter", "Plan", "Receipt", "Record", "Row", "Rule", "Spelling", "Table", "parameters_of", "write"]
