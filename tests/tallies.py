"""Torch's own account of a piece of work: what the allocator handed out, which kernels ran and what they touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NO_KERNEL = {"aten::detach", "aten::alias", "aten::_unsafe_view", "aten::empty", "aten::_local_scalar_dense"}

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm"}


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most memory that ``work`` held at a time, by the events of torch's CPU allocator.

    It sees every tensor, also inside a kernel; not what numpy owns, nor the packing buffers of MKL and oneDNN, some of
    which (bfloat16, on processors that know it) come from torch's allocator for the length of a matrix product.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    live = peak = product_end_ns = 0
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() in PRODUCTS:
            product_end_ns = event.start_ns() + event.duration_ns()
        elif event.name() == "[memory]":
            if event.start_ns() > product_end_ns:
                peak = max(peak, live)
            live += event.nbytes()
    return max(peak, live)


class Tally(TorchDispatchMode):
    """Counts kernels, and the bytes of the tensors that they read and write; views are neither."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.bytes_moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if not func.is_view and name not in NO_KERNEL and name.startswith("aten::"):
            self.kernels += 1
            if name == "aten::embedding":  # reads the rows that it returns, not the table
                args = (result, *args[1:])
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes_moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result
