"""What the command's words share: the files that it writes, and its terminal.

May import: nothing.
"""
