"""Decides what each client does next and merges what comes back; knows neither Flower nor a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cosp.errors import ConfigError, RefusedUpdate
from cosp.fleet.census import one_of_each
from cosp.fleet.introduction import Budget, Introduction
from cosp.merge.aggregation import OpenRound, is_finite, squares_of
from cosp.merge.clipping import Clip, NormBound, norm_of
from cosp.merge.gathered import GatheredRound
from cosp.merge.staleness import Arrival
from cosp.methods.clients import ClientRecord, scoring_within_memory
from cosp.methods.method import Method
from cosp.methods.records import Records
from cosp.server import privacy
from cosp.server.contents import Contents
from cosp.server.heads import HeadFit, Reach
from cosp.submodel.footprint import footprint
from cosp.submodel.layout import parameter_count
from cosp.submodel.low_rank import norm_of_products
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.selection import summed
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import State, extract
from cosp.task.bits import bits_sent
from cosp.task.cut import Cut
from cosp.task.payload import scores_from_vector
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings

SCORING_KNOWN = 16_384
"""Clients whose way of scoring is remembered."""


@dataclass(frozen=True)
class ClosedRound:
    """What a round did: the version it made, how many updates it merged, the share of each block that they cover, and
    how far they were apart (``Merged.drift``).
    """

    version: int
    arrivals: int
    coverage: tuple[float, ...]
    drift: float | None


class Coordinator:
    """The global model, its open round, and the clients' records."""

    def __init__(
        self,
        *,
        shape: TransformerShape,
        method: Method,
        training: TrainSettings,
        model: State,
        clients: Sequence[Introduction],
        seed: int,
        max_staleness: int | None = None,
        limit_bytes: Callable[[Introduction], int] = lambda client: client.memory_bytes,
        heads: HeadFit | None = None,
        clip: Clip | None = None,
    ) -> None:
        self.shape = shape
        self.layout = {name: entry for name, entry in layout_of(shape).items() if name in model}
        """Of the parameters that the model has: none in a dry run."""
        self.method = method
        self.training = training
        self.seed = seed
        self.max_staleness = max_staleness
        self.heads = heads
        """What gathers moments for closed-form heads; None where there are none to fit, or all are fitted."""
        self._limit_bytes = limit_bytes
        self.bound = None if clip is None else NormBound(clip)
        """How large an update may be, if that is bounded."""
        self.version = 0
        self.velocity: State = {}
        self.snapshots: dict[int, State] = {0: model}
        """Every version that a client in flight started from, and the current one."""
        self.records = Records(clients)
        self._scoring: dict[int, ScoreSettings | None] = {}
        """Of clients that were at work lately; see ``_scoring_of``."""
        for client in one_of_each(clients):
            self._scoring_of(client)
        self.contents = Contents(method.merging.changes_frozen)
        self._parameters = parameter_count(layout_of(shape), (shape.sizes,) * shape.blocks)
        self._open_round()

    @property
    def model(self) -> State:
        return self.snapshots[self.version]

    @property
    def arrivals(self) -> int:
        """Updates merged into the open round."""
        return self._round.arrivals

    def restore(self, version: int, snapshots: dict[int, State], velocity: State) -> None:
        """Go on from ``version``: what a checkpoint kept of the model."""
        self.version, self.snapshots, self.velocity, self.heads = version, snapshots, velocity, None
        self._open_round()

    def add(self, client: Introduction) -> None:
        """Let one more client take part; it sits out if it can hold nothing."""
        self.records.add(client)
        self._look_at(self.records[client.client])

    def learn(self, client: int, budget: Budget) -> bool:
        """Take note of what ``client`` can afford now; True if that is news. Who can hold no submodel sits out.

        A budget that says nothing of the client's speed leaves what is known of it.
        """
        record = self.records[client]
        budget = replace(budget, speed=budget.speed or record.introduction.speed)
        if budget == record.introduction.budget:
            return False
        self.records.introduce(client, record.introduction.with_budget(budget))
        record.sits_out = None
        self._look_at(record)
        return True

    def _look_at(self, record: ClientRecord) -> None:
        """Find how a client scores, or that it sits out."""
        try:
            self._scoring[record.client] = self._scoring_of(record.introduction)
        except ConfigError as error:
            record.sits_out = str(error)

    @property
    def sitting_out(self) -> tuple[int, ...]:
        """Clients that are given no tasks, in their order."""
        return self.records.sitting_out

    def put_away(self, client: int) -> None:
        """``client`` has no task: keep no more of it than a row."""
        if len(self._scoring) > SCORING_KNOWN:
            self._scoring.clear()
        self.records.put_away(client)

    def has_work(self, client: int) -> bool:
        """Say whether there is a task for ``client``: while moments are gathered, one for who can give some."""
        if self.heads is None:
            return True
        return client not in self.heads.clients and self._reach(self.heads, client) is not None

    def _reach(self, heads: HeadFit, client: int) -> Reach | None:
        introduction = self.records[client].introduction
        limit_bytes = min(introduction.memory_bytes, self._limit_bytes(introduction))
        return heads.reach(limit_bytes, introduction.words)

    def next_task(self, client: int) -> Task:
        """Return what ``client`` should do now: give moments while they are gathered, score its units when its scores
        are missing or old, else train.
        """
        record = self.records[client]
        if self.heads is not None:
            return self._moments_task(self.heads, record)
        record.version = self.version
        plan = self._plan(record) if not self._wants_scores(record) else None
        keep = record.introduction.keep
        task = Task(
            kind="train" if plan else "score",
            client=client,
            version=self.version,
            turn=record.tasks,
            seed=self.seed,
            shape=self.shape,
            plan=plan or self._in_words(record, self.shape.full_plan(self.method.submodels.depth(record.introduction))),
            keep=1.0 if keep is None else keep,
            scoring=self._scoring_for(record),
            **self.method.local.parts(record, self.training),
        )
        task = self._without_kept(task, record)
        record.tasks += 1
        if plan:
            record.dispatches += 1
            record.last_version = self.version
        return task

    def _moments_task(self, heads: HeadFit, record: ClientRecord) -> Task:
        reach = self._reach(heads, record.client)
        if reach is None:
            raise ValueError(f"client {record.client} holds no trunk up to an exit")
        task = Task(
            kind="moments",
            client=record.client,
            version=self.version,
            turn=record.tasks,
            seed=self.seed,
            shape=self.shape,
            plan=self._in_words(record, reach.plan),
            training=replace(self.training, batch_size=reach.batch),
            compression=self.method.local.compression,
        )
        task = self._without_kept(task, record)
        record.tasks += 1
        return task

    def _without_kept(self, task: Task, record: ClientRecord) -> Task:
        """Return ``task`` as it is sent to a client that has some frozen tensors of its last one."""
        if not record.kept:
            return task
        contents = self.contents.of(task, self.model)
        return replace(task, kept=tuple((name, found) for name, found in contents.items() if found in record.kept))

    def note_kept(self, task: Task) -> None:
        """``task`` has been replied to: its client has what of it is frozen, if it keeps that."""
        if task.training.frozen and self.records[task.client].introduction.keeps_frozen:
            self.records[task.client].kept = frozenset(self.contents.of(task, self.model).values())

    def forget_kept(self, client: int) -> None:
        """A task was lost: what ``client`` still has nobody knows, so it is sent everything again."""
        self.records[client].kept = frozenset()

    def plan_of(self, client: int) -> SubmodelPlan | None:
        """Return what ``client`` would train next; None if it takes no part, sits out or has no scores yet."""
        record = self.records[client]
        if record.sits_out or not self.method.takes_part(record.introduction):
            return None
        if self._scoring_for(record) is not None and record.scores is None:
            return None
        record.version = self.version
        return self._plan(record)

    def _plan(self, record: ClientRecord) -> SubmodelPlan:
        return self._in_words(record, self.method.submodels.plan(self._informed(record)))

    def _in_words(self, record: ClientRecord, plan: SubmodelPlan) -> SubmodelPlan:
        """Return a method's ``plan`` with the client's own words, if it has told any: no method chooses among them."""
        words = record.introduction.words
        return plan if words is None else replace(plan, words=words)

    def weights(self, task: Task) -> Mapping[str, Tensor]:
        """Return the tensors that ``task`` starts from, as the client receives them, cut out when they are read."""
        return Cut(self.snapshots[task.version], self.layout, task)

    def epsilon(self, client: int) -> float | None:
        """Return how much ``client``'s updates can have told of its data by now; None where nothing bounds it."""
        settings = self.training.privacy
        return None if settings is None else privacy.epsilon(settings, self.records[client].dispatches)

    def counted(self, client: int, samples: int) -> int:
        """Return how many of the ``samples`` that a reply claims count; RefusedUpdate if the client has not as many."""
        record = self.records[client]
        known = record.claimed_samples or record.introduction.samples
        if not 0 < samples <= known:
            raise RefusedUpdate("samples", f"claims {samples} samples, introduced itself with {known}")
        return min(samples, record.introduction.samples)

    def take_scores(self, task: Task, scores: Tensor) -> None:
        """Keep a client's scores; RefusedUpdate if they are not what was asked for."""
        try:
            found = scores_from_vector(scores, task)
        except ValueError as error:
            raise RefusedUpdate("malformed", str(error)) from error
        record = self.records[task.client]
        record.scores, record.scored_at = found, record.dispatches

    def take_moments(self, task: Task, moments: Tensor, samples: int) -> None:
        """Add a client's moments; RefusedUpdate if they are not what was asked for, or come too late."""
        if self.heads is None:
            raise RefusedUpdate("stale", "the heads are fitted already")
        counted = self.counted(task.client, samples)
        self.heads.take(task.client, task.plan.depth, moments, samples, counted)

    def fit_heads(self) -> dict[str, Any]:
        """Put the heads that the gathered moments give into the model, and return what a run writes down of them."""
        if self.heads is None:
            raise ValueError("there are no heads to fit")
        self.snapshots[self.version], told = self.heads.fitted(self.model)
        self.heads = None
        return told

    def take_update(
        self,
        task: Task,
        delta: Mapping[str, Tensor],
        samples: int,
        *,
        on_clip: Callable[[float], None] = lambda scale: None,
    ) -> float:
        """Fold an update into the open round and return its weight; RefusedUpdate leaves the round as it was.

        ``on_clip`` is told by what one that is out of bounds was multiplied.
        """
        staleness = self.version - task.version
        if self.max_staleness is not None and staleness > self.max_staleness:
            raise RefusedUpdate("stale", f"{staleness} versions old, at most {self.max_staleness} are merged")
        squares: float | None = self._check(task, delta)
        samples = self.counted(task.client, samples)
        bounded = self._clipped(task, delta, on_clip)
        if bounded is not delta:
            delta, squares = bounded, None
        record, coming = self.records[task.client], self.version + 1
        arrival = Arrival(
            staleness=staleness,
            waited=max(1, coming - record.merged_at),
            samples=samples,
            keep=task.parameters / self._parameters,
            delta_l1=lambda: _l1(delta.values()),
            drift_l1=lambda: _l1(self.model[name] - old for name, old in self.snapshots[task.version].items()),
            product_norm=lambda: self._product_norm(task, bounded),
        )
        weight, mass = self.method.merging.weigh(arrival), self.method.merging.mass
        change = dict(delta)
        if self.method.merging.interpolates:
            change, squares = self._since_now(task, delta), None
        if self.method.merging.products is not None:
            change = self.method.merging.products.update(task.plan, self.weights(task), self.model, delta)
            squares = None
        self._round.fold(task.plan, change, weight, None if mass is None else mass(arrival), squares)
        record.merged_at = coming
        return weight

    def close_round(self, in_flight: Iterable[Task]) -> ClosedRound:
        """Turn the open round into the next version; keep only the snapshots that ``in_flight`` tasks started from.

        RefusedUpdate if that would hold NaN or infinity, or its rule needs more arrivals: then the round is empty again
        and nothing else is another.
        """
        closed = self._round
        coverage = tuple(closed.coverage(block) for block in range(self.shape.blocks))
        try:
            merged = closed.close()
        except RefusedUpdate:
            self._open_round()
            raise
        model, velocity = self.method.merging.step.apply(self.model, self.velocity, merged)
        changed = (tensor for name, tensor in model.items() if tensor is not self.model.get(name))
        if not all(bool(torch.isfinite(tensor).all()) for tensor in changed):
            self._open_round()
            raise RefusedUpdate("non-finite", f"the merge of {closed.arrivals} updates holds NaN or infinity")
        self.velocity = velocity
        self.version += 1
        self.snapshots[self.version] = model
        needed = {task.version for task in in_flight} | {self.version}
        self.snapshots = {version: state for version, state in self.snapshots.items() if version in needed}
        self._open_round()
        drift = merged.drift if merged.drift is not None and math.isfinite(merged.drift) else None
        return ClosedRound(self.version, closed.arrivals, coverage, drift)

    def _open_round(self) -> None:
        merging = self.method.merging
        layout = layout_of(self.shape) if merging.products is None else merging.products.layout
        if merging.rule is not None:
            self._round: OpenRound = GatheredRound(layout, self.shape.sizes, rule=merging.rule)
            return
        self._round = OpenRound(layout, self.shape.sizes, over_all=merging.over_all, over_moved=merging.over_moved)

    def _clipped(
        self, task: Task, delta: Mapping[str, Tensor], on_clip: Callable[[float], None]
    ) -> Mapping[str, Tensor]:
        """Return ``delta`` within bounds; RefusedUpdate if it is not and those are to be refused. Masks have none."""
        if self.bound is None or not delta or bits_sent(task):
            return delta
        norm = norm_of(delta.values())
        scale = self.bound.scale_of(norm, lambda: norm_of(self.weights(task).values()))
        if scale < 1 and self.bound.clip.how == "refuse":
            raise RefusedUpdate("norm", f"its norm is {norm:.3g} a parameter, {scale * norm:.3g} would be ordinary")
        self.bound.note(scale * norm)
        if scale == 1:
            return delta
        on_clip(scale)
        return {name: change * scale for name, change in delta.items()}

    def _product_norm(self, task: Task, delta: Mapping[str, Tensor]) -> float:
        """Return the norm of what the adapters that ``task`` trained make; 1 of a dry run's, which has none."""
        began = self.weights(task)
        trained = {name: began[name] + change for name, change in delta.items() if self.layout[name].adapter}
        return norm_of_products(trained, self.shape) if trained else 1.0

    def _since_now(self, task: Task, delta: Mapping[str, Tensor]) -> State:
        """Return what leads from the model as it is now to the client's trained weights."""
        now, then = extract(self.model, self.layout, task.plan), self.weights(task)
        return {name: change + then[name] - now[name] for name, change in delta.items()}

    def _scoring_for(self, record: ClientRecord) -> ScoreSettings | None:
        if record.client not in self._scoring:
            self._scoring[record.client] = self._scoring_of(record.introduction)
        return self._scoring[record.client]

    def _scoring_of(self, client: Introduction) -> ScoreSettings | None:
        """Return how ``client`` scores the units of its blocks; ConfigError if it can hold or score none."""
        held = self.shape.holding(client.words)
        frozen = self.method.local.settings(self.training).left
        full_width = footprint(held, (held.sizes,) * self.method.submodels.depth(client), frozen=frozen)
        return scoring_within_memory(
            client, self.method.submodels.scoring_of(client), full_width, self._limit_bytes(client)
        )

    def _informed(self, record: ClientRecord) -> ClientRecord:
        """Return the record that the method plans by: with everybody's scores where it pools them."""
        if not self.method.submodels.pools_scores:
            return record
        return replace(record, scores=summed(scores for _, scores in self.records.scores()))

    def _wants_scores(self, record: ClientRecord) -> bool:
        scoring = self._scoring_for(record)
        if scoring is None:
            return False
        if record.scores is None or len(record.scores) < self.method.submodels.depth(record.introduction):
            return True
        return record.dispatches - record.scored_at >= scoring.refresh_dispatches

    def _check(self, task: Task, delta: Mapping[str, Tensor]) -> float:
        """Refuse what is malformed or not finite; return its square."""
        trained = task.trained_spans if self.layout else {}  # in a dry run there is nothing to look at
        wanted = {name: span.shape for name, span in trained.items() if name in self.layout}
        got = {name: tuple(tensor.shape) for name, tensor in delta.items()}
        if got != wanted:
            wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
            name = wrong[0]
            raise RefusedUpdate("malformed", f"{name}: shape {got.get(name)}, asked for {wanted.get(name)}")
        squares = squares_of(delta)
        if not is_finite(delta, squares):
            raise RefusedUpdate("non-finite", "the update holds NaN or infinity")
        return squares


def _l1(tensors: Iterable[Tensor]) -> float:
    return float(sum(tensor.abs().sum(dtype=torch.float64) for tensor in tensors))
