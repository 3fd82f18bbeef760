"""How long an Opus packet plays: its first octet says it, no decoder needed.

```
 0 1 2 3 4 5 6 7      RFC 6716 §3.1
+---------+-+---+
| config  |s| c |     config: mode, bandwidth and frame length; s: stereo; c: how many frames follow
+---------+-+---+
```
"""

#: RFC 6716 §3.1 table 2: frame length by config, in samples of the 48 kHz RTP clock (RFC 7587 §4.1).
_FRAME_SAMPLES = (
    *(480, 960, 1920, 2880) * 3,  # SILK, three bandwidths
    *(480, 960) * 2,  # hybrid, two bandwidths
    *(120, 240, 480, 960) * 4,  # CELT, four bandwidths
)


def opus_samples(payload: bytes) -> int:
    """Length of a non-empty Opus packet in 48 kHz samples; 0 for one that breaks the rules. RFC 6716 §3.2."""
    frame_samples = _FRAME_SAMPLES[payload[0] >> 3]
    code = payload[0] & 3
    if code == 0:
        return frame_samples
    if code < 3:
        return 2 * frame_samples
    # RFC 6716 §3.2.5: code 3 counts its frames in the next octet; together they last at most 120 ms.
    samples = frame_samples * (payload[1] & 0x3F) if len(payload) > 1 else 0
    return samples if samples <= 5760 else 0
