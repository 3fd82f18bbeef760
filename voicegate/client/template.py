"""Instant Connect from the caller's side (spec/instant.md): fetch a template now, call without waiting later.

template = await fetch_template("http://localhost:8080/v1/realtime/calls")
…
async with connect(url, template=template) as call:       # the first check leaves before the offer does

fetch_template ─▶ Template ─▶ connect ─┬─▶ checks and handshake at once, from a provisional answer
                                       └─▶ offer ─▶ answer: goes on with that, or begins again without it
"""

import json
import os
import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlsplit

import trio

from voicegate.client.errors import CallError, CallFailure
from voicegate.client.limits import SIGNALING_LIMIT_S
from voicegate.client.session import ClientSession
from voicegate.client.signaling import (
    CALLS_PATH,
    Answer,
    HttpSignaling,
    Message,
    check_api_key,
    events_id_of,
    http_refusal,
    open_stream,
    parse_url,
    post,
)
from voicegate.dtls import Certificate
from voicegate.ice import Candidate

_CREATED, _OK = 201, 200


@dataclass(frozen=True, slots=True)
class Template:
    """What a server promised for a call that there may never be. Good for one call, until `expires_at` (Unix time).

    It is bound to `certificate`, which the call uses. `answer` is the provisional answer; `local_host` is the address
    of our end of the connection that fetched it.
    """

    ufrag: str
    answer: str
    expires_at: int
    local_host: str
    certificate: Certificate = field(repr=False)


async def fetch_template(
    url: str, *, ssl_context: ssl.SSLContext | None = None, api_key: str | None = None
) -> Template:
    """Fetch a template for a call to `url` (`http(s)://HOST:PORT/v1/realtime/calls`), as whoever has this API key or
    client secret. Raises `CallError`, and LocalError for what is no key."""
    check_api_key(api_key)
    parts = _calls_of(url)
    certificate = Certificate.generate()
    # Every offer of ours has the same shape; addresses and credentials, which differ, are not in its answer.
    sample = ClientSession(
        local_candidates=[Candidate.host_candidate("127.0.0.1", 9)],
        certificate=certificate,
        random_bytes=os.urandom,
        wall_clock_offset_s=0.0,
    ).offer()
    asked = {"offer": sample, "fingerprint": certificate.fingerprint.to_sdp()}
    target = parts._replace(path=f"{parts.path.removesuffix('/').rpartition('/')[0]}/templates")
    with trio.move_on_after(SIGNALING_LIMIT_S):
        async with open_stream(parts, ssl_context) as (stream, local_host):
            asking = json.dumps(asked).encode()
            status, _, body = await post(stream, target, asking, "application/json", api_key=api_key)
            if status != _OK:
                raise CallError(CallFailure.OFFER_REFUSED, http_refusal(status, body))
            try:
                fields = json.loads(body)
                answer, ufrag, expires_at = str(fields["answer"]), str(fields["ufrag"]), int(fields["expires_at"])
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise CallError(CallFailure.BAD_ANSWER, "that is no template") from error
            return Template(ufrag, answer, expires_at, local_host, certificate)
    raise CallError(CallFailure.SERVER_AWAY, f"no template within {SIGNALING_LIMIT_S:.0f} s")


class InstantSignaling:
    """The signaling of a call with a template: it connects when there is an offer to send, and nobody waits for it."""

    def __init__(
        self, url: str, template: Template, ssl_context: ssl.SSLContext | None, api_key: str | None = None
    ) -> None:
        self.local_host = template.local_host
        self.events_id = events_id_of(urlsplit(url).query)
        query = f"template={quote(template.ufrag, safe='')}"
        parts = _calls_of(url)
        self._parts = parts._replace(query=f"{parts.query}&{query}" if parts.query else query)
        self._ssl_context = ssl_context
        self._api_key = api_key
        self._http: HttpSignaling | None = None

    async def exchange(self, offer: str) -> Answer:
        """Post the offer. Raises `CallError`."""
        async with open_stream(self._parts, self._ssl_context) as (stream, local_host):
            self._http = HttpSignaling(self._parts, self._ssl_context, stream, local_host, self._api_key)
            return await self._http.exchange(offer)

    async def next_message(self) -> Message | None:
        """None: HTTP has no way back."""
        await trio.lowlevel.checkpoint()
        return None

    async def hang_up(self) -> None:
        """Post to the call's `hangup`, if there is an answer that names the call."""
        if self._http is not None:
            await self._http.hang_up()


def _calls_of(url: str) -> SplitResult:
    parts = parse_url(url)
    if parts.scheme not in {"http", "https"}:
        raise CallError(CallFailure.BAD_URL, f"{url!r}: templates are for http:// and https://")
    return parts._replace(path=parts.path if parts.path not in {"", "/"} else CALLS_PATH)
