"""Handshake messages, one file each; in which order they are sent, the diagrams of `spec/dtls.md` show.

Each is a dataclass with `parse(body)`, which raises only `DtlsError` for any bytes whatever, and `serialize()`, its
inverse.
"""

from voicegate.dtls.messages.certificate import CertificateMessage
from voicegate.dtls.messages.certificate_13 import CertificateMessage13
from voicegate.dtls.messages.certificate_request import ECDSA_SIGN, CertificateRequest
from voicegate.dtls.messages.certificate_request_13 import CertificateRequest13
from voicegate.dtls.messages.certificate_verify import CertificateVerify
from voicegate.dtls.messages.client_hello import ClientHello
from voicegate.dtls.messages.client_key_exchange import ClientKeyExchange
from voicegate.dtls.messages.encrypted_extensions import EncryptedExtensions
from voicegate.dtls.messages.finished import Finished
from voicegate.dtls.messages.hello_verify_request import HelloVerifyRequest
from voicegate.dtls.messages.key_update import KeyUpdate
from voicegate.dtls.messages.server_hello import ServerHello
from voicegate.dtls.messages.server_hello_done import ServerHelloDone
from voicegate.dtls.messages.server_key_exchange import ServerKeyExchange

__all__ = [
    "ECDSA_SIGN",
    "CertificateMessage",
    "CertificateMessage13",
    "CertificateRequest",
    "CertificateRequest13",
    "CertificateVerify",
    "ClientHello",
    "ClientKeyExchange",
    "EncryptedExtensions",
    "Finished",
    "HelloVerifyRequest",
    "KeyUpdate",
    "ServerHello",
    "ServerHelloDone",
    "ServerKeyExchange",
]
