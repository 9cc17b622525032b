"""Parts of the command line: its smaller commands, writing files, and standard output, errors and signals.

May import: _stream, diagnosis, plans, study, theory.
"""
