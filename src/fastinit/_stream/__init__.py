"""The stream of random numbers: keys, laws, draws of tensors and of pieces of them, orthogonal matrices.

May import: _common, _core.
"""
