"""Keep FFmpeg on the thread that calls it.

`av` puts a filter graph in front of every audio encoder, and a filter graph starts one worker thread per processor
and one more. They never have anything to do here, but with one encoder per session on a machine of many cores there
would be tens of thousands. `av` has no switch for it; FFmpeg has: it can be told to believe in one processor.
"""

import contextlib
import ctypes

import av.packet


def keep_single_threaded() -> None:
    """Tell FFmpeg, for the whole process, that there is one processor. Without effect where av is built otherwise.

    Public API of FFmpeg: `av_cpu_force_count` in libavutil/cpu.h. It is looked up through an extension module of av,
    whose dependencies include that library wherever the wheel keeps it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(av.packet.__file__).av_cpu_force_count(1)
