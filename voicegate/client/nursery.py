"""A nursery for a `with` block that lasts as long as its block, and lets the one error of it leave as itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_block_nursery() -> AsyncIterator[trio.Nursery]:
    """The nursery of tasks that only serve the block: they are cancelled when it ends.

    Trio wraps every error that leaves a nursery in a group, because several tasks may fail. Here it is the block that
    fails, or at most one helper, and callers want to catch what they see.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        raise error from error.__cause__
