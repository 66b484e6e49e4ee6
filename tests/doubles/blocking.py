"""What may block an event loop in our tests: nothing, but for what is listed here with its reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from blockbuster import blockbuster_ctx

_OURS: Final = ["gateway", "keyservice", "envelope", "thirdparty"]


@contextmanager
def never_blocked() -> Iterator[None]:
    """Raise a BlockingError wherever our own code blocks an event loop of this process."""
    with blockbuster_ctx(scanned_modules=_OURS) as blockbuster:
        blockbuster.functions["os.stat"].can_block_in("ssl.py", "create_default_context")
        for function in blockbuster.functions.values():
            # botocore reads its models in a worker thread, under a loop of that thread's own.
            function.can_block_in("gateway/stores/s3_client.py", "_made")
            # A glance at pages in memory; one that had to wait for the disk is the last for a while.
            function.can_block_in("gateway/catalog/sqlite.py", "_look")
            # The parent of workers serves nobody: it makes their folder, and clears up behind them.
            function.can_block_in("gateway/processes/workers.py", {"run", "_one"})
        yield
