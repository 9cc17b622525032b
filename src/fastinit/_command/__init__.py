"""Parts of the command line: writing files, and standard output, errors and signals.

May import: nothing.
"""
