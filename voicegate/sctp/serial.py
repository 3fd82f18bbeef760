"""Numbers that wrap on the wire and do not wrap here.

TSNs have 32 bits and stream sequence numbers 16 (RFC 9260 §1.6: serial number arithmetic). On arrival each is
*unwrapped* once, to the integer that is nearest to one which we know; from then on `<` and `+ 1` mean what they say.
"""


def unwrap_tsn(wire: int, near: int) -> int:
    """The integer with the 32 low bits `wire` that is nearest to `near`."""
    return near + ((wire - near + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def unwrap_ssn(wire: int, near: int) -> int:
    """The integer with the 16 low bits `wire` that is nearest to `near`."""
    return near + ((wire - near + 0x8000) & 0xFFFF) - 0x8000
