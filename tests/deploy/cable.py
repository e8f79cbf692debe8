"""A cable between two network devices that delays and loses Ethernet frames, for kernels without netem.

``python cable.py HERE THERE DELAY_MS LOSS SEED`` makes two TAP devices and carries frames between them, each way
``DELAY_MS`` late; a share ``LOSS`` of them never arrives. What is above, TCP too, meets it as on a bad radio link.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

SET_INTERFACE = 0x400454CA  # TUNSETIFF, linux/if_tun.h
TAP, NO_PACKET_INFORMATION = 0x0002, 0x1000
FRAME_BYTES = 65_536


def tap(name: str) -> int:
    """Return the other side of a new TAP device: what the kernel sends through it is read here, and vice versa."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, SET_INTERFACE, struct.pack("16sH", name.encode(), TAP | NO_PACKET_INFORMATION))
    return file


def carry(ends: tuple[int, int], delay_s: float, loss: float, rng: random.Random) -> None:
    """Carry frames for ever. All wait equally long, so the first in a direction is the first that is due."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for end in select.select(ends, [], [], wait_s)[0]:
            frame = os.read(end, FRAME_BYTES)
            if rng.random() >= loss:
                under_way.append((time.monotonic() + delay_s, other[end], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, frame = under_way.popleft()
            try:
                os.write(end, frame)
            except OSError:  # that side is down, or its queue is full: the frame is lost
                continue


if __name__ == "__main__":
    here, there, delay_ms, loss, seed = sys.argv[1:]
    taps = tap(here), tap(there)
    print("ready", flush=True)
    carry(taps, float(delay_ms) / 1000, float(loss), random.Random(int(seed)))
