"""`echo`: the caller hears himself, one network round trip later.

The cheapest agent there is: encoded frames are turned round inside the packet reader, so what you hear is the network
and the relay, and nothing else. Use it to judge a path.
"""

from voicegate.agents.call import Call


async def echo(call: Call) -> None:
    """Loop the caller's own frames back until the call ends."""
    call.announce("speaking")
    await call.loop_back()
