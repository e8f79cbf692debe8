"""Work on submodels, and what torch itself counts of it: FLOPs, bytes held and saved, and what one step adds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import random_samples, random_state
from tallies import Tally, peak_bytes
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cosp.models import TransformerShape
from cosp.models.flat import FlatModel
from cosp.models.transformer import Transformer
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.plan import SubmodelPlan, prefix_plan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.training import TrainSettings
from cosp.trainer.importance import taylor_scores
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import count_predictions
from cosp.trainer.training import train
from cosp.transfer import TransferSettings

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


def assert_peak(predicted: int, work: Work) -> None:
    """Measure twice where once is not near: on a busy machine the profiler was seen to lose most of its events."""
    if predicted != pytest.approx(peak_bytes(work), rel=0.1):
        assert predicted == pytest.approx(peak_bytes(work), rel=0.1)


def saved_bytes(model: Transformer, batch: int, *, mixed: bool = False) -> int:
    """Bytes of the storages that autograd holds between forward and backward, parameters and indices apart."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    held: list[torch.Tensor] = []
    read = random_samples(model.shape, batch)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed),
    ):
        sum(F.cross_entropy(z.float(), torch.zeros(batch, dtype=torch.int64)) for z in model(read))
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    return sum(size for pointer, size in storages.items() if pointer not in known)


def whole_trunk(shape: TransformerShape, width: float, depth: int, frozen: Frozen) -> SubmodelPlan:
    """The share ``width`` of all blocks but the frozen ones, which are whole."""
    wide, narrow = (prefix_plan(shape.sizes.scaled(share), depth).blocks for share in (1.0, width))
    return SubmodelPlan(wide[: frozen.blocks] + narrow[frozen.blocks :])


def samples(shape: TransformerShape, count: int) -> Samples:
    return Samples(random_samples(shape, count).numpy(), np.zeros(count, dtype=np.int64))


def built(
    shape: TransformerShape, plan: SubmodelPlan, frozen: Frozen, *, trains: bool
) -> tuple[FlatModel, torch.Tensor]:
    """A model and the weights it received; of what is frozen as halves it received those."""
    size = footprint(shape, plan.counts, frozen=frozen)
    model = FlatModel(shape, plan, torch.device("cpu"), trains=trains, frozen=frozen)
    if not frozen.halves:
        received = torch.zeros(size.parameters)
        model.load(received)
        return model, received
    received = torch.zeros(size.trained)
    model.load(received, torch.zeros(size.frozen, dtype=getattr(torch, frozen.held_as)))
    return model, received


def model_of(shape: TransformerShape, plan: SubmodelPlan, frozen: Frozen, trains: bool = True) -> FlatModel:
    """A model with random weights."""
    model = FlatModel(shape, plan, torch.device("cpu"), trains=trains, frozen=frozen)
    spans = spans_of(layout_of(shape), plan.counts, frozen)
    model.load(flatten(extract(random_state(shape), layout_of(shape), plan), spans))
    return model


def training(
    shape: TransformerShape,
    plan: SubmodelPlan,
    batch: int,
    optimizer: str,
    *,
    frozen: Frozen = NOTHING,
    balanced: bool = False,
    checkpointing: bool = False,
    steps: int = 2,
) -> Work:
    settings = TrainSettings(epochs=1, batch_size=batch, optimizer=optimizer, checkpointing=checkpointing)
    data = samples(shape, batch * steps)
    prior = torch.zeros(shape.classes) if balanced else None

    def work() -> None:
        model, received = built(shape, plan, frozen, trains=True)
        image = torch.empty(batch, *shape.sample_shape)  # numpy's copy, which torch does not see
        rng = np.random.default_rng(0)
        train(model, data, settings=settings, transfer=TransferSettings(), version=0, rng=rng, log_prior=prior)
        del received, image

    return work


def scoring(
    shape: TransformerShape, plan: SubmodelPlan, batch: int, *, frozen: Frozen = NOTHING, steps: int = 1
) -> Work:
    def work() -> None:
        model, received = built(shape, plan, frozen, trains=False)
        one = random_samples(shape, batch), torch.zeros(batch, dtype=torch.int64)
        taylor_scores(model.module, [one] * steps)
        del received

    return work


def evaluation(
    shape: TransformerShape, plan: SubmodelPlan, batch: int, *, frozen: Frozen = NOTHING, steps: int = 1
) -> Work:
    data = samples(shape, batch * steps)

    def work() -> None:
        model, received = built(shape, plan, frozen, trains=False)
        image = torch.empty(batch, *shape.sample_shape)
        count_predictions(model, data, batch)
        del received, image

    return work
