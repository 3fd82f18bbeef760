"""A server that does nothing but a handshake: it answers an offer as told, and reports what DTLS agreed on.

No relay, no agent, nothing said: ICE-lite and DTLS over one socket, one peer, in one thread. What the peer says is
opened and thrown away: its packets are the proof that both sides export the same SRTP keys. What it takes as `options`
are the choices of a `DtlsConnection`, so that a test can ask of a foreign stack whatever it could be asked.
"""

from __future__ import annotations

import http.server
import os
import select
import socket
import threading
import time
from typing import Any

from voicegate.dtls import (
    Certificate,
    ConnectionFailed,
    DtlsConnection,
    DtlsRole,
    HandshakeComplete,
    SrtpProfile,
)
from voicegate.ice import Candidate, IceCredentials, IceLiteAgent
from voicegate.rtp import SrtpError, SrtpReceiver
from voicegate.sdp import AnswerParameters, Setup, build_answer, parse_offer

DTLS = range(20, 64)
# RFC 5761 §4: what RTP's payload type and marker are in RTCP.
RTCP = range(64, 96)
UNTIL = "/settled"
SILENCE_S = 0.02
# Generous, for a busy machine: it only keeps what never comes from being waited for.
PATIENCE_S = 30.0


class DtlsEndpoint:
    """`url` takes offers, each for a socket of its own; `outcome` is how the last handshake ended.

    A GET of `until` is answered when there is no more to come: the peer was heard, and the keys have changed.
    """

    def __init__(self, role: DtlsRole, profile: SrtpProfile, **options: Any) -> None:
        self.role, self.profile, self.options = role, profile, options
        self.certificate = Certificate.generate()
        self.outcome: HandshakeComplete | ConnectionFailed | None = None
        self.dtls: DtlsConnection | None = None
        self.opened_packets = 0
        self.refused_packets = 0
        self._receiver: SrtpReceiver | None = None
        self._done = threading.Event()
        self._settled = threading.Event()
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = endpoint.answer(offer).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/sdp")
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_OPTIONS(self) -> None:
                self.send_response(204)
                for name in ("Origin", "Headers", "Methods"):
                    self.send_header(f"Access-Control-Allow-{name}", "*")
                self.end_headers()

            def do_GET(self) -> None:
                if self.path == UNTIL:
                    endpoint.wait_until_settled()
                # A page for a browser to stand on.
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._threads = [threading.Thread(target=self._http.serve_forever, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1/realtime/calls"

    @property
    def until(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}{UNTIL}"

    def wait_until_settled(self) -> None:
        """Or until patience ends; then the test finds what is missing."""
        self._settled.wait(PATIENCE_S)

    def answer(self, text: str) -> str:
        """Describe ourselves and start listening."""
        offer = parse_offer(text)
        credentials = IceCredentials("endpoint", "p" * 24)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        parameters = AnswerParameters(
            ice=credentials,
            fingerprint=self.certificate.fingerprint,
            candidates=[Candidate.host_candidate("127.0.0.1", port)],
            ssrc=1,
            setup=Setup.ACTIVE if self.role is DtlsRole.CLIENT else Setup.PASSIVE,
        )
        dtls = DtlsConnection(
            self.role,
            self.certificate,
            peer_fingerprints=offer.fingerprints,
            srtp_profiles=[self.profile],
            random_bytes=os.urandom,
            round_trip_s=None,
            **self.options,
        )
        ice = IceLiteAgent(credentials, offer.ice.ufrag, now=time.monotonic())
        self._threads.append(threading.Thread(target=self._run, args=(udp, ice, dtls), daemon=True))
        self._threads[-1].start()
        return build_answer(offer, parameters)

    def _run(self, udp: socket.socket, ice: IceLiteAgent, dtls: DtlsConnection) -> None:
        with udp:
            self._serve(udp, ice, dtls)

    def _serve(self, udp: socket.socket, ice: IceLiteAgent, dtls: DtlsConnection) -> None:
        peer: Any = None
        while not self._done.is_set():
            ready, _, _ = select.select([udp], [], [], SILENCE_S)
            now = time.monotonic()
            if ready:
                data, address = udp.recvfrom(2048)
                if data[0] in DTLS:
                    peer = address
                    dtls.receive_datagram(data, address, now)
                elif data[0] < DTLS.start:
                    ice.receive_datagram(data, address, now)
                    for reply, where in ice.datagrams_to_send(now):
                        udp.sendto(reply, where)
                    if peer is None and ice.selected_addr is not None:
                        peer = ice.selected_addr
                        dtls.start(now)
                else:
                    self._open(data)
            self._drive(dtls, now)
            if peer is not None:
                for datagram in dtls.datagrams_to_send(now):
                    udp.sendto(datagram, peer)
            if isinstance(self.outcome, ConnectionFailed) or (self.opened_packets and has_new_keys(dtls)):
                self._settled.set()

    def _drive(self, dtls: DtlsConnection, now: float) -> None:
        if (timeout := dtls.next_timeout()) is not None and now >= timeout:
            dtls.handle_timeout(now)
        while (event := dtls.next_event()) is not None:
            if isinstance(event, HandshakeComplete | ConnectionFailed):
                self._note(event, dtls, now)

    def _note(self, event: HandshakeComplete | ConnectionFailed, dtls: DtlsConnection, now: float) -> None:
        self.outcome = event
        self.dtls = dtls
        if isinstance(event, HandshakeComplete) and (srtp := event.srtp) is not None:
            self._receiver = SrtpReceiver(srtp.profile, srtp.remote_key, srtp.remote_salt)
        # In DTLS 1.3 let the peer show that it can change keys, ours and its own.
        dtls.update_keys(now, request=True)

    def _open(self, data: bytes) -> None:
        if self._receiver is None or data[1] & 0x7F in RTCP:
            return
        try:
            self._receiver.unprotect_rtp(data)
        except SrtpError:
            self.refused_packets += 1
        else:
            self.opened_packets += 1

    def close(self) -> None:
        self._done.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()


def has_new_keys(dtls: DtlsConnection) -> bool:
    """Both sides', where the version can change them: epoch 3 is the first of application data (RFC 9147 §6.1)."""
    return dtls._transport.write_epoch < 3 or (dtls._transport.write_epoch, dtls.statistics.key_updates) == (4, 1)
