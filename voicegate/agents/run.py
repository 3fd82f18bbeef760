"""Running an agent: with the Realtime server in front of it, unless it is one itself."""

import trio

from voicegate.agents.call import Agent, Call
from voicegate.agents.conversation import Conversation


async def run_agent(agent: Agent, call: Call) -> None:
    """Run `agent` on `call` until it returns; what it raises comes out unchanged.

    An agent with a true attribute `speaks_realtime` answers the clients of `call.hub` itself; any other gets a
    `Conversation`, which is told of everything in the call and answers for it.
    """
    if getattr(agent, "speaks_realtime", False):
        await agent(call)
        return
    conversation = Conversation(call)
    call.observer = conversation
    call.hub.use(conversation)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run)
        try:
            await agent(call)
        except trio.Cancelled:
            raise
        except BaseException as error:
            # Kept out of the nursery, which would wrap it in a group; raised below.
            failure = error
        nursery.cancel_scope.cancel()
    conversation.end("The agent failed." if failure else "")
    if failure is not None:
        raise failure


def failure_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to say of an agent that failed, of what `except*` caught: one error by itself, or all of them.

    An error in a nursery of the agent's comes out in a group, which `except SystemExit` would not know.
    """
    return errors.exceptions[0] if len(errors.exceptions) == 1 else errors
