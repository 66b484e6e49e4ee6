"""Runs a command that is stopped when its parent dies, however the parent dies.

`python -m gateway.processes.leash PARENT COMMAND...` becomes the command, under the same process id. Linux
only; elsewhere a parent that is killed outright leaves the command behind.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be heard
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - the command is ours


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
