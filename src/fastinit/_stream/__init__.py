"""The stream of random numbers: keys, laws and draws, pieces of tensors, orthogonal matrices.

May import: _common, _core.
"""
