"""The command `sealgate`: one file a command group.

Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 130 a tour was interrupted. Anything that
goes wrong is one line on standard error. No secret is ever an argument.
"""

from gateway.cli.root import main

__all__ = ["main"]
