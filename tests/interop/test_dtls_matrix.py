"""Every foreign DTLS stack at hand against ours: peer, version, role, SRTP profile, key exchange. Prints a table.

Chromium, Firefox and libwebrtc speak DTLS 1.3, and 1.2 when we speak no better; the browsers offer X25519MLKEM768.
aiortc (OpenSSL) speaks 1.2. A cell that names a group which the peer offers no share of is a HelloRetryRequest.
`test_openssl_dtls.py` has the openssl command, `test_pion_dtls.py` pion, whose rows are in the table too.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pytest

from tests.interop.conftest import PEER_TIMEOUT_S, ROOT
from tests.interop.dtls_endpoint import DtlsEndpoint
from tests.interop.peers.browser_peer import HERE, call
from tests.interop.peers.firefox import FirefoxPage, Preferences, firefox
from voicegate.dtls import (
    POST_QUANTUM_GROUPS,
    CipherSuite,
    DtlsRole,
    DtlsVersion,
    HandshakeComplete,
    NamedGroup,
    SrtpProfile,
)
from voicegate.dtls.cipher_suites import SUPPORTED_SUITES
from voicegate.dtls.key_exchange import available_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

V13, V12 = DtlsVersion.DTLS_1_3, DtlsVersion.DTLS_1_2
CLIENT, SERVER = DtlsRole.CLIENT, DtlsRole.SERVER
GCM, GCM_256, SHA1 = SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AEAD_AES_256_GCM, SrtpProfile.AES128_CM_SHA1_80
X25519, P256, MLKEM = NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.X25519MLKEM768

CHACHA20 = CipherSuite.TLS_CHACHA20_POLY1305_SHA256
CHACHA20_12 = CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256


class Cell(NamedTuple):
    """`role` is ours; `group` and `suite` the only ones that we accept, `None` for what we would choose."""

    peer: str
    version: DtlsVersion
    role: DtlsRole
    profile: SrtpProfile
    group: NamedGroup | None
    suite: CipherSuite | None = None

    def __str__(self) -> str:
        group = self.group.name if self.group else "any group"
        suite = f", {self.suite.name}" if self.suite else ""
        return f"{self.peer}, {self.version.value}, we are {self.role.value}, {self.profile.name}, {group}{suite}"


CELLS = [
    Cell("wrtc", V13, CLIENT, GCM, None),
    Cell("wrtc", V13, CLIENT, SHA1, P256),
    Cell("wrtc", V13, CLIENT, SHA1, X25519),
    Cell("wrtc", V13, SERVER, SHA1, None),
    Cell("wrtc", V13, SERVER, GCM, P256),
    Cell("wrtc", V13, CLIENT, GCM, None, CHACHA20),
    Cell("wrtc", V13, SERVER, GCM, None, CHACHA20),
    Cell("wrtc", V13, CLIENT, GCM_256, None),
    Cell("wrtc", V13, SERVER, GCM_256, None),
    Cell("wrtc", V12, CLIENT, GCM, None),
    Cell("wrtc", V12, CLIENT, GCM, None, CHACHA20_12),
    Cell("wrtc", V12, SERVER, GCM, None, CHACHA20_12),
    Cell("wrtc", V12, SERVER, SHA1, P256),
    Cell("browser", V13, CLIENT, GCM, None),
    Cell("browser", V13, CLIENT, SHA1, MLKEM),
    Cell("browser", V13, SERVER, GCM, None),
    Cell("browser", V13, SERVER, SHA1, P256),
    Cell("browser", V13, SERVER, GCM, MLKEM),
    Cell("browser", V13, SERVER, GCM, None, CHACHA20),
    Cell("browser", V12, CLIENT, GCM, None),
    Cell("browser", V12, SERVER, SHA1, None),
    Cell("firefox", V13, CLIENT, GCM, None),
    Cell("firefox", V13, CLIENT, SHA1, MLKEM),
    Cell("firefox", V13, SERVER, SHA1, P256),
    Cell("firefox", V13, SERVER, GCM, MLKEM),
    Cell("firefox", V13, SERVER, GCM, None, CHACHA20),
    Cell("firefox-classical", V13, CLIENT, GCM, P256),
    Cell("firefox-classical", V13, SERVER, GCM, None),
    Cell("firefox", V12, CLIENT, GCM, None),
    Cell("firefox", V12, SERVER, SHA1, None),
    Cell("aiortc", V12, CLIENT, GCM, None),
    Cell("aiortc", V12, SERVER, SHA1, P256),
]
NAMES = {
    "wrtc": "libwebrtc",
    "browser": "Chromium",
    "firefox": "Firefox",
    "firefox-classical": "Firefox, ML-KEM off",
    "aiortc": "aiortc",
}
FIREFOX: dict[str, Preferences] = {"firefox": {}, "firefox-classical": {"media.webrtc.send_mlkem_keyshare": False}}

Run: TypeAlias = "Callable[[str, DtlsEndpoint], dict[str, Any]]"


@pytest.fixture(scope="module")
def run(isolated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Have a peer call until there is no more to come; its report.

    Each peer is a program of its own, but a Firefox lasts for its cells.
    """
    recording = tmp_path_factory.mktemp("heard") / "heard.wav"
    pages: dict[str, FirefoxPage] = {}
    with contextlib.ExitStack() as browsers:

        def run(peer: str, endpoint: DtlsEndpoint) -> dict[str, Any]:
            if peer not in FIREFOX:
                return run_program(peer, endpoint, recording)
            if peer not in pages:
                pages[peer] = browsers.enter_context(firefox(FIREFOX[peer]))
                pages[peer].add_init_script((HERE / "ears.js").read_text(encoding="utf-8"))
            return call(pages[peer], endpoint.url, 0, endpoint.until)

        yield run


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_stacks_agree(cell: Cell, run: Run, dtls_rows: list[tuple[str, ...]]) -> None:
    groups = POST_QUANTUM_GROUPS[1:] if cell.group is None else (cell.group,)
    if not available_groups(groups):
        pytest.skip("this machine's library has no ML-KEM")
    suites = SUPPORTED_SUITES if cell.suite is None else (cell.suite,)
    endpoint = DtlsEndpoint(cell.role, cell.profile, versions=[cell.version], groups=groups, cipher_suites=suites)
    try:
        report = run(cell.peer, endpoint)
    finally:
        endpoint.close()
    outcome = endpoint.outcome
    assert isinstance(outcome, HandshakeComplete), outcome
    assert outcome.version == cell.version.value
    assert outcome.srtp is not None
    assert outcome.srtp.profile is cell.profile
    # The peer's voice is opened with the keys that we exported.
    assert endpoint.opened_packets > 0
    assert endpoint.refused_packets == 0
    assert outcome.key_exchange == (cell.group or X25519).name
    assert outcome.cipher_suite == (cell.suite.name if cell.suite else outcome.cipher_suite)
    if cell.version is V13:
        assert endpoint.dtls is not None
        # The peer followed our KeyUpdate and sent the one that it was asked for.
        assert (endpoint.dtls._transport.write_epoch, endpoint.dtls.statistics.key_updates) == (4, 1)
    # The peer's own word for it, where it gives one: the version as on the wire.
    assert report.get("dtls", expected := {V13: "FEFC", V12: "FEFD"}[cell.version]) == expected
    agreed = (outcome.version, cell.role.value, cell.profile.name, outcome.key_exchange, outcome.cipher_suite)
    dtls_rows.append((NAMES[cell.peer], *agreed))


def run_program(peer: str, endpoint: DtlsEndpoint, recording: Path) -> dict[str, Any]:
    """The peer's report. What it writes to stderr is its own affair here: it waits for audio that never comes."""
    arguments = ["--url", endpoint.url, "--seconds", "0", "--until", endpoint.until, "--record", str(recording)]
    finished = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", f"tests.interop.peers.{peer}_peer", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PEER_TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout)
    return report
