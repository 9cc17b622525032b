"""What all other packages use: checks of arguments, dtypes and memory, threads, activations by name.

May import: _core.
"""
