"""Cross-block knowledge transfer: what the exits of one submodel learn from each other.

L = sum_i CE(z_i, y) + lambda T^2 sum_i KL( teacher || softmax(z_i / T) ), the second term from a warm-up version on.
The paper's teacher is the deepest exit (for all shallower ones). Ours is the detached mean of all exits' softened
predictions, for every exit: where few boards hold the deep blocks, the deepest exit is not the best one. A share of it
(``received``) is what the exits said of the sample before this client trained them, so that a client forgets less of
what others know, and one with a single exit has a teacher too. DepthFL's ("mutual") is the mean of the other exits,
whose gradient is that of the mean over them of KL(exit j || exit i).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

TEACHERS = ("mean", "deepest", "mutual", "none")
REDUCTIONS = ("batchmean", "mean")
NO_LABEL = -100
"""Of a sample that only fills a batch up; what torch's cross-entropy leaves out."""


@dataclass(frozen=True)
class TransferSettings:
    """Which terms of the loss are on; see :func:`exit_loss`.

    ``shallow_exits`` False trains the deepest exit alone. ``reduction`` "mean" and ``detach`` False are the released
    code's: an element mean of the KL, which is ``classes`` times weaker, and a teacher that learns from its pupils.
    ``received`` is the share of every teacher that is the exits' mean prediction before this client trained them.
    ``depth_weighted`` counts the i-th exit's terms i times, over the sum of all i (ScaleFL).
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    teacher: str = "mean"
    weight: float = 0.5
    temperature: float = 3.0
    warmup_versions: int = 0
    shallow_exits: bool = True
    detach: bool = True
    reduction: str = "batchmean"
    received: float = 0.0
    depth_weighted: bool = False

    def __post_init__(self) -> None:
        if self.teacher not in TEACHERS:
            raise ValueError(f"teacher must be one of {TEACHERS}, got {self.teacher!r}")
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {self.reduction!r}")
        if not 0 <= self.received <= 1:
            raise ValueError(f"received must lie in [0, 1], got {self.received}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be > 0, got {self.temperature}")
        for name in ("weight", "warmup_versions"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")

    def remembers(self, version: int) -> bool:
        """Say whether the submodel as received is a teacher of what is trained on ``version``."""
        return self.received > 0 and self.transfers(version)

    def transfers(self, version: int) -> bool:
        """Say whether exits have teachers in what is trained on ``version``."""
        return self.teacher != "none" and self.shallow_exits and version >= self.warmup_versions


def exit_loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    settings: TransferSettings,
    version: int,
    log_prior: Optional[Tensor] = None,
    remembered: Optional[Tensor] = None,
    filled: bool = False,
) -> Tuple[Tensor, Tensor]:
    """Return the loss to minimise and, detached, the cross-entropy of the deepest exit.

    ``logits`` holds (batch, classes) for each exit, shallow to deep; ``version`` is the model version trained on.
    ``log_prior`` (classes,), see :func:`log_class_shares`, is added to logits before they meet the labels.
    ``remembered`` (batch, classes) are the softened mean predictions of the submodel as it was received.
    ``filled``: samples that are labelled ``NO_LABEL`` fill the batch up and count for nothing.
    """
    judged = list(logits) if log_prior is None else [z + log_prior for z in logits]
    shares = _shares(len(logits), settings)
    there = labels != NO_LABEL if filled else None
    deepest = _cross_entropy(judged[-1], labels, there)
    loss = _times(shares[-1], deepest)
    if settings.shallow_exits:
        for share, shallow in zip(shares, judged[:-1]):
            loss = loss + _times(share, _cross_entropy(shallow, labels, there))
    teachers = _teachers(logits, settings, remembered) if settings.transfers(version) else []
    if teachers:
        apart = _divergence(logits, teachers, settings, shares, there)
        loss = loss + settings.weight * settings.temperature**2 * apart
    return loss, deepest.detach()


def log_class_shares(class_counts: Sequence[int]) -> Tensor:
    """Return the log share of every class in a client's data, one image added to each so that none is zero.

    Trained on logits + log shares, a client learns what tells classes apart and not how often it meets them (balanced
    softmax, Ren et al. 2020, arXiv:2007.10740): clients with other class mixes then disagree less. To predict on that
    client's own data the log shares are added again.
    """
    counts = torch.tensor(class_counts, dtype=torch.float32) + 1
    return (counts / counts.sum()).log()


def mean_prediction(logits: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    """Return the mean of the exits' softened probabilities, (batch, classes)."""
    return torch.stack([(z / temperature).softmax(-1) for z in logits]).mean(0)


def log_present(class_counts: Sequence[int]) -> Tensor:
    """Return 0 for classes that a client has and, in place of minus infinity, -1e4 for those that it has not.

    Added to logits it leaves the loss to the classes at hand, so that the others are not trained down. HeteroFL masks
    absent logits to zero instead, where they keep a constant part in the softmax.
    """
    return torch.where(torch.tensor(class_counts) > 0, 0.0, -1e4)


def _cross_entropy(logits: Tensor, labels: Tensor, there: Optional[Tensor]) -> Tensor:
    """Return the mean over the samples that are ``there``, None: all of them."""
    if there is None:
        return torch.nn.functional.cross_entropy(logits, labels)
    # written out: torch's own imports a computer algebra system under vmap, where many clients' pass computes this
    found = logits.log_softmax(-1).gather(-1, (labels * there)[:, None])[:, 0]
    return -(found * there).sum() / there.sum()


def _shares(exits: int, settings: TransferSettings) -> List[float]:
    """Return what each exit's terms count, shallow to deep."""
    if not settings.depth_weighted:
        return [1.0] * exits
    return [2 * (i + 1) / (exits * (exits + 1)) for i in range(exits)]


def _times(share: float, term: Tensor) -> Tensor:
    """Return ``share * term`` without a kernel where that is ``term``."""
    return term if share == 1.0 else share * term


def _divergence(
    logits: Sequence[Tensor],
    teachers: Sequence[Tensor],
    settings: TransferSettings,
    shares: Sequence[float],
    there: Optional[Tensor],
) -> Tensor:
    """Sum of KL(teacher || pupil) over the pupils; per sample ("batchmean") or per matrix entry ("mean")."""
    t = settings.temperature
    terms = []
    for share, teacher, pupil in zip(shares, teachers, logits):
        if settings.detach:
            teacher = teacher.detach()
        # divided here: PyTorch announces that its own "mean" will come to divide by the batch alone
        parts = teacher.shape[0] if settings.reduction == "batchmean" else teacher.numel()
        if there is None:
            apart = torch.nn.functional.kl_div((pupil / t).log_softmax(-1), teacher, reduction="sum") / parts
        else:
            # written out: kl_div has no rule for vmap, under which a pass of many clients computes this
            each = (torch.xlogy(teacher, teacher) - teacher * (pupil / t).log_softmax(-1)).sum(-1)
            apart = (each * there).sum() / (parts / teacher.shape[0] * there.sum())
        terms.append(_times(share, apart))
    return torch.stack(terms).sum()


def _teachers(logits: Sequence[Tensor], settings: TransferSettings, remembered: Optional[Tensor]) -> List[Tensor]:
    """Return each exit's teacher, shallow to deep.

    The deepest exit has none where it teaches all others, and a single exit has none but what is remembered.
    """
    t = settings.temperature

    def recalled(teacher: Tensor) -> Tensor:
        return teacher if remembered is None else torch.lerp(teacher, remembered, settings.received)

    if len(logits) == 1:
        return [] if remembered is None else [recalled(mean_prediction(logits, t))]
    if settings.teacher == "mean":
        return [recalled(mean_prediction(logits, t))] * len(logits)
    if settings.teacher == "mutual":
        others = [[z for j, z in enumerate(logits) if j != i] for i in range(len(logits))]
        return [recalled(mean_prediction(rest, t)) for rest in others]
    return [recalled((logits[-1] / t).softmax(-1))] * (len(logits) - 1)
