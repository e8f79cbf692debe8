"""What the server learns from what came up: a teacher adapts, and teaches what the boards hold of the model.

Both begin as the trained model. The teacher is whole; what is taught are the submodels that boards hold, cut out of one
whole model, so that one adapted set serves all boards: a gradient flows through the cut into the shared weights. Source
of the losses: Chen et al. 2024 (CEMA, arXiv:2402.17316, eqs. 5 and 6) and Wang et al. 2024 (CD-CCA, arXiv:2312.16279:
pseudo-labels and hidden states), for a model with several exits, whose terms are averaged.

==============  =======================================================================================================
``entropy``     a mean[w(H_g) H_g]: no teacher (Tent, Wang et al. 2021, arXiv:2006.10726, weighted as in EATA)
``distil``      the same + b mean[w(H_f) KL(f || g)] + c mean[w(H_f) CE(g, argmax f)] + m MSE of what heads read
``labels``      CE(g, y): an oracle's, for samples whose labels came later
==============  =======================================================================================================

and, where there are no labels, - d H(mean g) over all samples of a step: answers are sure each and even together (SHOT,
Liang et al. 2020, arXiv:2002.08546), with w(H) = exp(E0 - H) at E0 = 0.4 ln C, held fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cosp.adaptation.batches import Batch, joined
from cosp.adaptation.guards import balanced_rows, collapsed
from cosp.adaptation.kept import Keep, Take, kept_tensors, taken_tensors
from cosp.adaptation.parts import check_parts, names_of
from cosp.models.transformer import Transformer
from cosp.submodel.layout import Layout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import State, slice_of

RULES = ("none", "entropy", "distil", "labels")
TEACHERS = ("adapted", "frozen")
E0 = 0.4


@dataclass(frozen=True)
class AdaptSettings:
    """How the server adapts. ``batch`` uploads make a step; it replays ``replayed`` times as many of the last
    ``replay``, once it has ``replay_from``. ``plans_at_once``: so many of the boards' submodels are taught a step,
    drawn anew each time; None: all.

    ``class_cap``: of each pseudo-class a batch keeps at most so many times its even share. ``collapsed``: a step is
    undone after which the mean prediction has less than that share of ln C as entropy. ``clean_drop``: or by which the
    accuracy on the held clean set is that far below the trained model's.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    rule: str = "distil"
    parts: Tuple[str, ...] = ("norms",)
    teacher: str = "adapted"
    batch: int = 32
    learning_rate: float = 2.5e-3
    teacher_learning_rate: float = 2.5e-4
    momentum: float = 0.9
    entropy_weight: float = 3.0
    divergence_weight: float = 3.0
    label_weight: float = 1.0
    feature_weight: float = 0.0
    balance_weight: float = 0.0
    replay: int = 10_000
    replay_from: int = 256
    replayed: int = 3
    plans_at_once: Optional[int] = None
    class_cap: Optional[float] = None
    collapsed: Optional[float] = 0.3
    clean_drop: Optional[float] = None

    def __post_init__(self) -> None:
        for name, known in (("rule", RULES), ("teacher", TEACHERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        object.__setattr__(self, "parts", check_parts(self.parts))
        for name in ("learning_rate", "teacher_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in ("batch", "replay", "replay_from"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.plans_at_once is not None and not self.plans_at_once >= 1:
            raise ValueError(f"plans_at_once must be >= 1, got {self.plans_at_once}")
        for name in (
            "entropy_weight", "divergence_weight", "label_weight", "feature_weight", "balance_weight", "replayed"
        ):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.class_cap is not None and not self.class_cap >= 1:
            raise ValueError(f"class_cap must be >= 1, got {self.class_cap}")
        for name in ("collapsed", "clean_drop"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")


class Outputs(NamedTuple):
    """Of every exit, shallow to deep: what its head reads, and its logits."""

    features: List[Tensor]
    logits: List[Tensor]

    def mean(self) -> Tensor:
        """Return the mean of the exits' probabilities, (batch, classes)."""
        return torch.stack([F.softmax(z, dim=-1) for z in self.logits]).mean(0)


@dataclass(frozen=True)
class Lesson:
    """What a step did: its mean ``loss``, ``samples`` of the uploads learned from, the mean prediction's ``entropy``
    after it as a share of ln C; ``undone`` says why it was taken back.
    """

    loss: float
    samples: int
    entropy: float
    undone: Optional[str] = None


class School:
    """The adapting server's models, replay and guards.

    ``state`` is the whole trained model and is copied. ``clean`` are held samples with labels, for the guard.
    """

    def __init__(
        self,
        shape: TransformerShape,
        state: Mapping[str, Tensor],
        settings: AdaptSettings,
        clean: Optional[Batch] = None,
    ) -> None:
        self.settings = settings
        self._shape, self._layout = shape, layout_of(shape)
        names = names_of(self._layout, settings.parts)
        teacher_names = names_of(self._layout, ("norms",))
        self._pupil = _Learner(state, names, settings.learning_rate, settings.momentum)
        self._teacher = _Learner(state, teacher_names, settings.teacher_learning_rate, settings.momentum)
        self._modules: Dict[SubmodelPlan, _Reader] = {}
        self._kept: List[Batch] = []
        self._clean = clean
        self._best_clean = None if clean is None else self.accuracy(clean)

    @property
    def state(self) -> State:
        """The adapted whole model; its tensors are written to by the next step."""
        return self._pupil.state

    def snapshot(self) -> State:
        """Return what was adapted so far, as :meth:`restore` takes it."""
        return {name: tensor.detach().clone() for name, tensor in self._pupil.trained.items()}

    def restore(self, adapted: Mapping[str, Tensor]) -> None:
        """Go back to a snapshot; the teacher goes back to what it was trained as."""
        self._pupil.write(adapted)
        self._teacher.reset()

    def state_of(self, keep: Keep) -> Dict[str, Any]:
        """Return all that is learned and kept, as JSON values."""
        return {
            "pupil": self._pupil.state_of(keep),
            "teacher": self._teacher.state_of(keep),
            "kept": [batch.state_of(keep) for batch in self._kept],
        }

    def go_on_from(self, state: Mapping[str, Any], take: Take) -> None:
        """Undo :meth:`state_of`."""
        self._pupil.go_on_from(state["pupil"], take)
        self._teacher.go_on_from(state["teacher"], take)
        self._kept = [Batch.of_state(batch, take) for batch in state["kept"]]

    def accuracy(self, samples: Batch, plan: Optional[SubmodelPlan] = None) -> float:
        """Return the share of ``samples`` that the exits' mean of the adapted (sub)model gets right."""
        if samples.y is None:
            raise ValueError("samples without labels have no accuracy")
        with torch.no_grad():
            found = self._outputs(self._pupil, samples, plan or self._shape.full_plan()).mean().argmax(-1)
        return float(torch.eq(found, samples.y).float().mean())

    def learn(self, batch: Batch, plans: Sequence[SubmodelPlan], rng: np.random.Generator) -> Optional[Lesson]:
        """Take one step on what came up, for the distinct ``plans`` that boards hold; None if there is nothing to do.

        Uploads are kept for replay. Samples and tokens behind different blocks are different batches.
        """
        if self.settings.rule == "none" or not len(batch.x) or (self.settings.rule == "labels" and batch.y is None):
            return None
        before, taught_before = self._pupil.copy(), self._teacher.copy()
        if self.settings.rule == "distil" and self.settings.teacher == "adapted":
            self._teach_teacher(batch)
        kept = batch.rows(torch.from_numpy(self._balanced(batch)))
        lesson = self._step([kept, *self._replayed(batch, rng)], self._taught(plans, rng))
        why = self._why_undone(kept)
        if why is not None:
            self._pupil.put_back(before)
            self._teacher.put_back(taught_before)
        self._keep(kept)
        return Lesson(lesson, len(kept.x), self._mean_entropy(kept, plans), why)

    def _taught(self, plans: Sequence[SubmodelPlan], rng: np.random.Generator) -> List[SubmodelPlan]:
        """Return the distinct plans that this step teaches."""
        distinct, most = list(dict.fromkeys(plans)), self.settings.plans_at_once
        if most is None or most >= len(distinct):
            return distinct
        return [distinct[i] for i in np.sort(rng.choice(len(distinct), most, replace=False)).tolist()]

    def _teach_teacher(self, batch: Batch) -> None:
        """CEMA's first step: the whole model lowers its own entropy on the batch."""
        outputs = self._outputs(self._teacher, batch, self._shape.full_plan())
        p = outputs.mean()
        h = _entropies(p)
        self._teacher.step((_weights(h, self._shape.classes) * h).mean())

    def _balanced(self, batch: Batch) -> np.ndarray:
        rows = np.arange(len(batch.x))
        if self.settings.class_cap is None or not len(rows):
            return rows
        with torch.no_grad():
            found = self._outputs(self._teacher, batch, self._shape.full_plan()).mean().argmax(-1).numpy()
        return balanced_rows(found, self._shape.classes, self.settings.class_cap)

    def _step(self, batches: Sequence[Batch], plans: Sequence[SubmodelPlan]) -> float:
        """Take one step of the pupil on all batches and plans, and return its loss."""
        if self.settings.balance_weight:
            batches = joined(batches)  # what is to be even is the mean of all
        total = sum(len(batch.x) for batch in batches)
        loss = torch.zeros(())
        for batch in batches:
            taught = self._told(batch)
            for plan in plans:
                outputs = self._outputs(self._pupil, batch, plan)
                if outputs.logits:  # tokens from behind all that a shallow board has teach it nothing
                    loss = loss + len(batch.x) / (total * len(plans)) * self._loss(outputs, batch, taught)
        if loss.requires_grad:
            self._pupil.step(loss)
        return float(loss.detach())

    def _told(self, batch: Batch) -> Optional[Outputs]:
        """Return what the teacher says of the batch, where somebody listens."""
        if self.settings.rule != "distil":
            return None
        with torch.no_grad():
            return self._outputs(self._teacher, batch, self._shape.full_plan())

    def _loss(self, outputs: Outputs, batch: Batch, taught: Optional[Outputs]) -> Tensor:
        settings, classes = self.settings, self._shape.classes
        terms = []
        if settings.rule == "labels":
            if batch.y is None:
                raise ValueError("labels are missing, and the rule is labels")
            return torch.stack([F.cross_entropy(z, batch.y) for z in outputs.logits]).mean()
        p = None if taught is None else taught.mean()
        sure = None if p is None else _weights(_entropies(p), classes)
        for i, z in enumerate(outputs.logits):
            q = F.softmax(z, dim=-1)
            h = _entropies(q)
            term = settings.entropy_weight * (_weights(h, classes) * h).mean()
            if settings.balance_weight:
                term = term - settings.balance_weight * _entropies(q.mean(0))
            if p is not None and sure is not None and taught is not None:
                apart = F.kl_div(F.log_softmax(z, dim=-1), p, reduction="none").sum(-1)
                wrong = F.cross_entropy(z, p.argmax(-1), reduction="none")
                term = term + settings.divergence_weight * (sure * apart).mean()
                term = term + settings.label_weight * (sure * wrong).mean()
                if settings.feature_weight:
                    term = term + settings.feature_weight * F.mse_loss(outputs.features[i], taught.features[i])
            terms.append(term)
        return torch.stack(terms).mean()

    def _why_undone(self, batch: Batch) -> Optional[str]:
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self._pupil.trained.values()):
            return "not finite"
        limit = self.settings.collapsed
        if limit is not None and self.settings.rule != "labels":
            recent = [batch, *self._kept[-4:]]  # a board's window may well be of one class
            with torch.no_grad():
                found = [self._outputs(self._pupil, each, self._shape.full_plan()).mean() for each in recent]
            if collapsed(torch.cat(found).numpy(), limit):
                return "collapsed"
        drop = self.settings.clean_drop
        if drop is not None and self._clean is not None and self._best_clean is not None:
            return "forgets" if self.accuracy(self._clean) < self._best_clean - drop else None
        return None

    def _mean_entropy(self, batch: Batch, plans: Sequence[SubmodelPlan]) -> float:
        """Return that of the first of ``plans`` which goes on from the batch, else the whole model's."""
        if not len(batch.x):
            return float(_entropies(torch.ones(1)) / math.log(self._shape.classes))
        with torch.no_grad():
            tried = (self._outputs(self._pupil, batch, plan) for plan in [*plans, self._shape.full_plan()])
            mean = next(outputs.mean() for outputs in tried if outputs.logits).mean(0)
        return float(_entropies(mean) / math.log(self._shape.classes))

    def _replayed(self, batch: Batch, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield earlier uploads, drawn evenly, once there are enough."""
        sizes = np.array([len(each.x) for each in self._kept], dtype=np.int64)
        wanted = int(self.settings.replayed * len(batch.x))
        if wanted == 0 or sizes.sum() < self.settings.replay_from:
            return
        drawn = np.sort(rng.choice(int(sizes.sum()), min(wanted, int(sizes.sum())), replace=False))
        starts = np.cumsum(sizes) - sizes
        whose = np.searchsorted(starts, drawn, side="right") - 1
        yield from joined(
            [self._kept[i].rows(torch.from_numpy(drawn[whose == i] - starts[i])) for i in np.unique(whose).tolist()]
        )

    def _keep(self, batch: Batch) -> None:
        """Keep uploads, the last ``replay`` of them, in whole batches."""
        if len(batch.x):
            self._kept.append(batch)
        while sum(len(each.x) for each in self._kept) > self.settings.replay:
            self._kept.pop(0)

    def _outputs(self, learner: _Learner, batch: Batch, plan: SubmodelPlan) -> Outputs:
        reader = self._modules.get(plan)
        if reader is None:
            reader = self._modules[plan] = _Reader(self._shape, plan)
        weights = cut(learner.state, self._layout, plan)
        named = {f"model.{name}": tensor for name, tensor in weights.items()}
        found: Outputs = functional_call(reader, named, (batch,))
        return found


def cut(state: Mapping[str, Tensor], layout: Layout, plan: SubmodelPlan) -> State:
    """Return the submodel's tensors; what is learned on them is learned by ``state``."""
    return {name: slice_of(state[name], entry, plan) for name, entry in layout.items() if entry.held(plan.depth)}


class _Reader(nn.Module):
    """A submodel that says of a batch, samples or tokens, what its exits read and answer."""

    def __init__(self, shape: TransformerShape, plan: SubmodelPlan) -> None:
        super().__init__()
        with torch.device("meta"):
            self.model = Transformer(shape, plan)

    def forward(self, batch: Batch) -> Outputs:
        if batch.after is None:
            found = list(self.model.outputs_in_turn(batch.x))
        else:
            found = list(self.model.resume(batch.x, batch.after, batch.sizes))
        return Outputs([features for features, _ in found], [logits for _, logits in found])


class _Learner:
    """A whole model some of whose tensors learn, by stochastic gradient steps with momentum."""

    def __init__(self, state: Mapping[str, Tensor], names: Sequence[str], rate: float, momentum: float) -> None:
        self._first = {name: state[name].detach().clone() for name in names}
        self.trained = {name: tensor.clone().requires_grad_() for name, tensor in self._first.items()}
        self.state: State = {**state, **self.trained}
        self._rate, self._momentum = rate, momentum
        self._moved = {name: torch.zeros_like(tensor) for name, tensor in self._first.items()}

    def step(self, loss: Tensor) -> None:
        slopes = torch.autograd.grad(loss, list(self.trained.values()), allow_unused=True)
        with torch.no_grad():
            for (name, tensor), slope in zip(self.trained.items(), slopes):
                if slope is not None:
                    moved = self._moved[name].mul_(self._momentum).add_(slope)
                    tensor.sub_(moved, alpha=self._rate)

    def write(self, adapted: Mapping[str, Tensor]) -> None:
        """Take the values of ``adapted`` and forget where the steps went."""
        with torch.no_grad():
            for name, tensor in self.trained.items():
                tensor.copy_(adapted[name])
                self._moved[name].zero_()

    def reset(self) -> None:
        self.write(self._first)

    def copy(self) -> Tuple[State, State]:
        values = {name: tensor.detach().clone() for name, tensor in self.trained.items()}
        return values, {name: moved.clone() for name, moved in self._moved.items()}

    def state_of(self, keep: Keep) -> Dict[str, Any]:
        return {"values": kept_tensors(self.trained, keep), "moved": kept_tensors(self._moved, keep)}

    def go_on_from(self, state: Mapping[str, Any], take: Take) -> None:
        with torch.no_grad():
            for into, names in ((self.trained, state["values"]), (self._moved, state["moved"])):
                found = taken_tensors(names, take)
                for name, tensor in into.items():
                    tensor.copy_(found[name])

    def put_back(self, copy: Tuple[State, State]) -> None:
        """Undo what was done since ``copy``, and stand still."""
        self.write(copy[0])


def _entropies(p: Tensor) -> Tensor:
    """Return the entropy of probabilities (..., classes), in nats."""
    found: Tensor = torch.special.entr(p).sum(-1)
    return found


def _weights(h: Tensor, classes: int) -> Tensor:
    """Return w(H) = exp(E0 ln C - H), held fixed: surer samples count more."""
    return torch.exp(E0 * math.log(classes) - h).detach()
