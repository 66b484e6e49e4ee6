"""The command `sealgate`: one file a command group.

Exit codes: 0 done, 1 it failed, 2 wrong usage or settings. Anything that goes wrong is one line on
standard error, with a hint where there is one.
"""

from gateway.cli.root import main

__all__ = ["main"]
