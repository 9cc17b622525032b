"""Losses, optimizers, and the training loop.

May import: _common, _stream, _engine, _core.
"""
