"""The deep stack: passes and their statistics, memory for gradients, weights that are never stored.

May import: _common, _stream, initializers, _core.
"""
