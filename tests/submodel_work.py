"""What torch itself counts of some work: its FLOPs, and what one step of it adds."""

from __future__ import annotations

from collections.abc import Callable

from tallies import Tally
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]


def counted_flops(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # other attention kernels hide from the counter
        work()
    return counter.get_total_flops()


def tally_of_a_step(work: Callable[..., Work]) -> Tally:
    """What a second step adds, so that whatever happens once cancels."""
    one, two = Tally(), Tally()
    for tally, steps in ((one, 1), (two, 2)):
        doing = work(steps=steps)
        with tally:
            doing()
    two.kernels -= one.kernels
    two.bytes_moved -= one.bytes_moved
    return two
