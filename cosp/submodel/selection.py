"""Which units a client holds at one dispatch, given how many it can afford and how much its data cares for each.

Each rule is a closure ``choose(ranking) -> units`` for one group of one block (method section "selection").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Callable, Dict, Iterable, Optional, Tuple

import numpy as np

from cosp.seeds import numpy_stream
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.plan import GROUPS, BlockPlan, SubmodelPlan, Units, all_units, units_at
from cosp.submodel.shape import TransformerShape

Scores = Tuple[Dict[str, np.ndarray], ...]
"""For each block, group name -> one float a unit: the more, the more the client's data needs that unit."""


@dataclass(frozen=True)
class Choice:
    """What a rule may look at when it chooses ``keep`` of ``size`` units.

    ``turn`` counts the client's dispatches, ``start`` in [0, 1) staggers clients, ``scores`` is None for a rule that
    does without data.
    """

    size: int
    keep: int
    turn: int
    start: float
    scores: Optional[np.ndarray]
    stream: Callable[[], np.random.Generator]

    @cached_property
    def rng(self) -> np.random.Generator:
        """The choice's own chance; started when a rule asks for it, which takes as long as the rest of a choice."""
        return self.stream()


Rule = Callable[[Choice], np.ndarray]


def prefix(choice: Choice) -> np.ndarray:
    """The first units (HeteroFL, Diao et al. 2021, arXiv:2010.01264)."""
    return np.arange(choice.keep)


def top(choice: Choice) -> np.ndarray:
    """The units with the highest scores: fixed until the scores are refreshed."""
    return _by_score(choice)[: choice.keep]


def rolling(choice: Choice) -> np.ndarray:
    """A window that moves on by its own length at every dispatch (FedRolex, Alam et al. 2022, moves by one)."""
    return _window(np.arange(choice.size), choice.keep, choice)


def advancing(step: int = 1) -> Rule:
    """A window that moves on by ``step`` units a turn (FedRolex, Alam et al. 2022, arXiv:2212.01548)."""

    def choose(choice: Choice) -> np.ndarray:
        return (choice.turn * step + np.arange(choice.keep)) % choice.size

    return choose


def staggered(choice: Choice) -> np.ndarray:
    """A window that never moves and starts elsewhere for each client (RA-Fed, Zhou et al. 2023, arXiv:2310.08670)."""
    return (int(choice.start * choice.size) + np.arange(choice.keep)) % choice.size


def core_rolling(core_share: float = 0.5) -> Rule:
    """A core of top-scored units, and a window that rolls over all others (ours).

    The core makes the submodel useful on its own client at once; the window lets every unit be trained by somebody.
    """
    if not 0 <= core_share <= 1:
        raise ValueError(f"core_share must lie in [0, 1], got {core_share}")

    def choose(choice: Choice) -> np.ndarray:
        core = round(core_share * choice.keep)
        ranked = _by_score(choice)
        rest = np.sort(ranked[core:])
        return np.concatenate([ranked[:core], _window(rest, choice.keep - core, choice)])

    return choose


def random(choice: Choice) -> np.ndarray:
    """A fresh random subset at every dispatch (federated dropout)."""
    return choice.rng.permutation(choice.size)[: choice.keep]


def gumbel(choice: Choice) -> np.ndarray:
    """A sample without replacement, likelier for higher scores: Gumbel noise on logit(p), p = sigmoid(score)."""
    scores = _scores(choice)
    return np.argsort(-(scores + choice.rng.gumbel(size=choice.size)), kind="stable")[: choice.keep]


def bernoulli(choice: Choice) -> np.ndarray:
    """One draw of every unit with probability sigmoid(score), whatever the budget (the paper); drawn again if empty."""
    probability = 1 / (1 + np.exp(-_scores(choice)))
    for _ in range(1000):
        kept = np.flatnonzero(choice.rng.random(choice.size) < probability)
        if len(kept):
            return kept
    return top(Choice(choice.size, 1, 0, 0.0, choice.scores, choice.stream))


def choose_plan(
    model: TransformerShape,
    shape: SubmodelShape,
    rule: Rule,
    *,
    scores: Optional[Scores],
    seed: int,
    client: int,
    turn: int,
    start: float = 0.0,
) -> SubmodelPlan:
    """Return the plan of one dispatch; a group that the budget covers wholly is kept wholly whatever the rule, and so
    are the blocks that ``shape`` keeps whole.

    Scores are looked at where there is something to choose: a client that has grown to the whole model may have scored
    fewer blocks than it now holds.
    """
    blocks = []
    for b in range(shape.depth):
        kept: Dict[str, Units] = {}
        for group in GROUPS:
            size, keep = model.sizes.of(group), shape.counts.of(group)
            if keep == size or b < shape.whole:
                kept[group] = all_units(size)
                continue
            known = None if scores is None else scores[b][group]
            choice = Choice(
                size, keep, turn, start, known, partial(numpy_stream, seed, "units", client, turn, b, group)
            )
            kept[group] = units_at(np.sort(rule(choice)), size)
        ranks = all_units(model.sizes.ranks if b < shape.whole else shape.counts.ranks)
        blocks.append(BlockPlan(**kept, ranks=ranks))
    return SubmodelPlan(tuple(blocks))


def random_scores(model: TransformerShape, depth: int, rng: np.random.Generator) -> Scores:
    """Return scores that know nothing of the data."""
    return tuple({group: rng.normal(size=model.sizes.of(group)) for group in GROUPS} for _ in range(depth))


def summed(known: Iterable[Scores]) -> Scores:
    """Return the sum of several clients' scores, of as many blocks as the shallowest of them has scored."""
    return tuple({group: sum(block[group] for block in same) for group in GROUPS} for same in zip(*known))


def _scores(choice: Choice) -> np.ndarray:
    if choice.scores is None:
        raise ValueError("this rule needs scores: choose how units are scored")
    return choice.scores


def _by_score(choice: Choice) -> np.ndarray:
    """Unit indices, best first; ties in index order."""
    return np.argsort(-_scores(choice), kind="stable")


def _window(units: np.ndarray, keep: int, choice: Choice) -> np.ndarray:
    if keep == 0:
        return units[:0]
    first = int(choice.start * len(units)) + choice.turn * keep
    return units[(first + np.arange(keep)) % len(units)]
