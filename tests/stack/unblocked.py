"""Runs one of our programs with every call that would block its event loop refused.

`python -m tests.stack.unblocked gateway serve ...`: what blocks ends as an error in the program's log,
and a test that looks at its answers sees it. The rules are those of the tests themselves.
"""

import runpy
import sys

from tests.doubles.blocking import never_blocked

if __name__ == "__main__":
    del sys.argv[0]
    with never_blocked():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
