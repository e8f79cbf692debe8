"""From a configuration to what a run is made of: data, boards, clients, model, method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cosp.checkpoints import Checkpoint, Imported, Words, import_state, open_checkpoint
from cosp.config import Config, DataConfig, ModelConfig, PartitionConfig, PretrainedConfig, asks_words, fits_heads
from cosp.data import (
    Dataset,
    PartitionScheme,
    Sizes,
    declared_dataset,
    load_dataset,
    partition,
)
from cosp.data.columns import CLIENT, Columns
from cosp.data.declared import DeclaredRows
from cosp.data.natural import Holding, holdings
from cosp.data.poison import triggered
from cosp.data.wording import CheckpointWords, Wording
from cosp.errors import ConfigError
from cosp.fleet.attackers import backdoor_of, check_attacks
from cosp.fleet.boards import Boards, one_of_each
from cosp.fleet.census import Census
from cosp.fleet.fleet import Fleet, load_fleet
from cosp.fleet.introduction import Introduction
from cosp.methods import Assignment, Method, Setting
from cosp.methods.clients import budget_of
from cosp.methods.method import everybody
from cosp.methods.pricing import declared_round_s
from cosp.models import SeriesShape, TextShape, TransformerShape, ViTShape
from cosp.seeds import stream_seed, torch_stream
from cosp.server import privacy
from cosp.server.rules import LoopRules
from cosp.stratified import hold_back
from cosp.submodel import low_rank
from cosp.submodel.frozen import Frozen
from cosp.submodel.shape import layout_of, quarter_exits
from cosp.submodel.slicing import State
from cosp.submodel.words import joined, words_in
from cosp.task.compression import rounded
from cosp.trainer.samples import Samples
from cosp.trainer.store import Rows

FLOAT16_MOST = 65504
TRIGGERED = "triggered"
"""The split of test samples that bear a backdoor's trigger."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that a run needs and that never changes while it runs. ``rows[n]``: client n's rows of the train split.

    ``imported`` says what a pretrained model gives to this one, which begins as it.
    """

    config: Config
    dataset: Dataset
    fleet: Fleet
    rows: Sequence[Rows]
    shape: TransformerShape
    imported: Imported | None = None

    @property
    def boards(self) -> Boards:
        return self.fleet.boards

    @property
    def splits(self) -> dict[str, Samples]:
        """All samples by split; ConfigError if they are but declared."""
        if self.dataset.declared:
            raise ConfigError(
                f"data.declared: {self.dataset.name} is declared, not here, so nothing can be trained on it: "
                "add --dry, or remove data.declared and give the data"
            )
        named = {"train": self.dataset.train, "validation": self.dataset.validation, "test": self.dataset.test}
        found = {name: Samples(split.x, split.y) for name, split in named.items()}
        return found if self.backdoor is None else {**found, TRIGGERED: self._triggered(found["test"], self.backdoor)}

    @cached_property
    def backdoor(self) -> int | None:
        """To what class the fleet's backdoor boards lead, if there are any."""
        return backdoor_of(self.boards)

    @property
    def bright(self) -> float:
        """What the pixels of a trigger are."""
        return float(np.max(self.dataset.train.x))

    def _triggered(self, test: Samples, target: int) -> Samples:
        """Return the test samples of all classes but the target's, with the trigger."""
        others = np.flatnonzero(test.y != target)
        return Samples(triggered(test.x[others], self.bright), test.y[others])

    @property
    def natural(self) -> list[Holding] | None:
        """Whose training data each board holds, where the data say it (``data.partition.kind: column``)."""
        return natural_holdings(self.config, self.dataset, self.boards)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should be told of how the data are used, one line each."""
        held = self.natural
        if held is None:
            return self.dataset.notes
        names = [name for holding in held for name in holding.clients]
        dealt = f"{names[0]} to {names[-1]}, dealt in this order to {len(held)} boards in the fleet's"
        return (*self.dataset.notes, f"{self.dataset.name}: data.partition.kind column: {len(names)} clients, {dealt}")

    @cached_property
    def introductions(self) -> Census:
        """What each client says of itself, as the run begins."""
        holdings = map(self._holding, range(len(self.boards)))
        alike = not self.assignment.timed and not asks_words(self.config)
        return Census(self.boards, holdings, self._introducing, alike=alike)

    def introduction(self, client: int) -> Introduction:
        """Return what ``client`` says of itself, without asking the others."""
        return self._introducing(client, *self._holding(client))

    @property
    def _introducing(self) -> Callable[..., Introduction]:
        """What makes introductions; it knows the data and not the experiment, which would refer to itself."""
        words = partial(own_words, self.dataset, self.rows) if asks_words(self.config) else None
        return partial(introduction_of, self.boards, words_of=words)

    def words_of(self, client: int) -> tuple[int, ...]:
        """Return the words of the client's texts, of those held back too, and the special ones."""
        return own_words(self.dataset, self.rows, client)

    def _holding(self, client: int) -> tuple[int, int, tuple[int, ...]]:
        """Return how many samples ``client`` trains on, how many it holds back, and its classes of the former."""
        if isinstance(self.rows, DeclaredRows):
            return self.rows.holding(client)
        train, test = self.rows[client]
        counts = np.bincount(self.dataset.train.y[train], minlength=self.shape.classes)
        return len(train), len(test), tuple(counts.tolist())

    @property
    def assignment(self) -> Assignment:
        """What decides how big each client's submodel is."""
        given = self.config.assignment
        return Assignment(
            rule=given.rule,
            target_round_s=given.target_round_s or math.inf,
            round_s=declared_round_s(self.shape, self.config.trains, **self._shared_parts),
        )

    @property
    def _shared_parts(self) -> dict[str, Any]:
        """What the method's settings say of every task; some methods fix it themselves."""
        method = self.config.method
        return {name: getattr(method, name) for name in ("transfer", "compression") if hasattr(method, name)}

    def limit_bytes(self, client: Introduction) -> int:
        """Return what a task of ``client`` may hold."""
        return self.assignment.limit_bytes(client, self.shape, self.config.trains)

    def method(self, clients: Sequence[Introduction], assignment: Assignment | None = None) -> Method:
        """Return the run's method, or what it would be with another ``assignment``."""
        config = self.config
        setting = Setting(
            model=self.shape,
            training=config.trains,
            seed=config.seed,
            clients=clients,
            assignment=assignment or self.assignment,
        )
        with _naming_variant(config):
            method = config.method.build(setting)
            if config.training.privacy is not None:
                heads, words = bool(self.fitted_exits), asks_words(config)
                privacy.check(method, next(iter(clients), None), fits_heads=heads, asks_words=words)
            self._check_arrivals(method, clients)
        return method

    def _check_arrivals(self, method: Method, clients: Sequence[Introduction]) -> None:
        """ConfigError if no round can have as many arrivals as the method's merge needs."""
        rule = method.merging.rule
        if rule is None:
            return
        every = method.takes_part is everybody or len(clients) < len(self.boards)  # real boards may be some of them
        taking = len(self.boards) if every else sum(map(method.takes_part, clients))
        at_work = min(taking, self.rules.concurrency or taking)
        quorum = method.merging.quorum or self.rules.quorum
        most = replace(self.rules, quorum=quorum).arrivals_wanted(at_work)
        if most < rule.needs:
            key = "method.buffer" if method.merging.quorum else "server.quorum"
            raise ConfigError(
                f"method.merge.rule: {rule.name} needs {rule.needs} arrivals a round, but {key} {quorum} of {at_work} "
                f"boards at work closes one at {most}: raise {key}, or take rule mean"
            )

    def initial_model(self) -> State:
        from cosp.models.transformer import Transformer, initialise  # here, as a plan needs no torch

        model = Transformer(self.shape)
        initialise(model, torch_stream(self.config.seed, "initial model"))
        fresh = {name: parameter.detach() for name, parameter in model.named_parameters()}
        fresh.update(low_rank.drawn(self.shape, self.config.seed))
        state = fresh if self.imported is None else self.imported.state(fresh)
        return self._as_held(state)

    def _as_held(self, state: State) -> State:
        """Return the model with what is frozen as boards hold it; ConfigError names a tensor that is beyond that."""
        frozen, layout = self.config.trains.left, layout_of(self.shape)
        if not frozen.halves:
            return state
        left = {name: rounded(state[name], frozen.held_as) for name in state if frozen.holds(layout[name])}
        for name, tensor in left.items():
            if not bool(tensor.isfinite().all()):
                raise ConfigError(
                    f"training.frozen_as: {frozen.held_as} ends at {FLOAT16_MOST}, {name} has larger numbers: take "
                    "bfloat16"
                )
        return {**state, **left}

    @property
    def fitted_exits(self) -> tuple[int, ...]:
        """After which blocks stand the heads that are fitted in closed form before training: those drawn anew of a
        pretrained model, if its ``heads`` and the method say so.
        """
        if self.imported is None or not fits_heads(self.config):
            return ()
        drawn = set(self.imported.drawn)
        return tuple(after for i, after in enumerate(self.shape.exits) if f"exits.{i}.head.weight" in drawn)

    @property
    def rules(self) -> LoopRules:
        server = self.config.server
        return LoopRules(
            versions=server.versions,
            until_s=server.until_s or math.inf,
            quorum=server.quorum,
            deadline_s=server.deadline_s,
            concurrency=server.concurrency,
            task_timeout_s=server.task_timeout_s,
            evaluate_every=server.evaluate_every,
            evaluate_every_s=server.evaluate_every_s,
            ban_after=server.ban_after,
            min_clients=server.min_clients,
        )


def load_experiment(config: Config, *, data_dir: Path | None = None) -> Experiment:
    """Read the data and the fleet of ``config`` and share the data out; ConfigError or DataError if they do not fit."""
    with _naming_variant(config):
        return _load(config, data_dir)


@contextmanager
def _naming_variant(config: Config) -> Iterator[None]:
    """Say of which variant a ConfigError is, if it is of one."""
    try:
        yield
    except ConfigError as error:
        if config.variant is None:
            raise
        raise ConfigError(f"variant {config.variant}: {error}") from error


def _load(config: Config, data_dir: Path | None) -> Experiment:
    try:
        fleet = load_fleet(config.fleet)
    except ConfigError as error:
        raise ConfigError(f"fleet: {error}") from error
    if config.training.precision == "mixed":
        check_half_rates(fleet.boards)
    model = config.model
    checkpoint = open_checkpoint(model.pretrained) if isinstance(model, PretrainedConfig) else None
    dataset = _dataset(config, data_dir, clients=len(fleet.boards), checkpoint=checkpoint)
    shape = model_shape(config, dataset, checkpoint)
    check_attacks(
        fleet.boards,
        data=dataset.name,
        kind=dataset.kind,
        classes=len(dataset.classes),
        streamed=dataset.train.streamed,
        masks=config.method.name == "fedpm",
    )
    if asks_words(config):
        shape = _in_words(config, dataset, shape)
    _check_frozen(config.trains.left, dataset, shape)
    return Experiment(
        config=config,
        dataset=dataset,
        fleet=fleet,
        rows=share_out(config, dataset, fleet.boards),
        shape=shape,
        imported=None if checkpoint is None else import_state(checkpoint, shape, dataset.classes),
    )


def _in_words(config: Config, dataset: Dataset, shape: TransformerShape) -> TransformerShape:
    """Return ``shape`` with the word that stands for unknown ones; ConfigError if the data are no texts."""
    key = f"model.vocabulary: {config.model.vocabulary}"
    if not isinstance(shape, TextShape):
        raise ConfigError(f"{key} is for texts, {dataset.name} has {dataset.kind}: remove the key")
    if dataset.declared:
        raise ConfigError(f"{key} takes each board's words from its texts, and data.declared has none: remove the key")
    return replace(shape, unknown=None if dataset.tokenizer is None else dataset.tokenizer.unknown)


def _check_frozen(frozen: Frozen, dataset: Dataset, shape: TransformerShape) -> None:
    """ConfigError names a part that the model does not have."""
    if frozen.words and not shape.words:
        raise ConfigError(f"training.frozen: words is for texts, {dataset.name} has {dataset.kind}: leave it out")
    if frozen.blocks > shape.blocks:
        raise ConfigError(
            f"training.frozen: blocks: {frozen.blocks} are more than the model's {shape.blocks}; freeze fewer "
            "(with all of them the exits' heads are trained alone)"
        )


def own_words(dataset: Dataset, rows: Sequence[Rows], client: int) -> tuple[int, ...]:
    """Return the words of the client's texts, of those held back too, and the special ones."""
    texts = np.asarray(dataset.train.x)
    return joined(words_in(texts[own] for own in rows[client]), dataset.special_words)


def introduction_of(
    boards: Boards,
    client: int,
    samples: int,
    test_samples: int,
    class_counts: tuple[int, ...],
    *,
    words_of: Callable[[int], tuple[int, ...]] | None = None,
) -> Introduction:
    """Return what ``client`` says of itself that has so many samples, and its words if they are asked for."""
    board = boards[client]
    return Introduction(
        client=client,
        board=board.profile.name,
        link=board.link.name,
        **vars(budget_of(board)),
        samples=samples,
        test_samples=test_samples,
        class_counts=class_counts,
        idle_w=board.profile.idle_w,
        gpu=board.profile.gpu,
        keeps_frozen=True,
        words=None if words_of is None else words_of(client),
    )


def check_half_rates(boards: Boards) -> None:
    """ConfigError names a board that would train in mixed precision, and at what rate its file does not say."""
    for board in one_of_each(boards):
        for profile in (board.profile, *(change.profile for change in board.changes)):
            if profile.gpu and profile.half_flops_per_s is None:
                raise ConfigError(
                    f"training.precision: mixed is what {profile.name} would train in, but its file has no rate to "
                    "price that by: add eta0_half, and peak_half_gflops to each mode, or take float32"
                )


def _dataset(config: Config, data_dir: Path | None, *, clients: int, checkpoint: Checkpoint | None) -> Dataset:
    data = config.data
    if data.declared is not None:
        told = data.declared
        return declared_dataset(
            data.name,
            shape=told.shape,
            vocabulary=told.vocabulary,
            classes=told.classes,
            samples=told.samples_per_client * clients,
        )
    sizes = Sizes(train=data.train, validation=data.validation, test=data.test)
    return load_dataset(
        data.name,
        data_dir=data_dir,
        seed=config.seed,
        sizes=sizes,
        image_size=data.image_size,
        stream=data.stream,
        columns=replace(columns_of(data), client=_client_column(data.partition)),
        kind=data.kind,
        wording=Wording(
            tokenizer=None if data.tokenizer is None else Path(data.tokenizer),
            vocabulary=data.vocabulary,
            tokens=data.tokens,
            checkpoint=None if checkpoint is None else _words(checkpoint),
        ),
    )


def _words(checkpoint: Checkpoint) -> CheckpointWords:
    inputs = checkpoint.architecture.inputs
    return CheckpointWords(folder=checkpoint.folder, table=inputs.vocabulary if isinstance(inputs, Words) else None)


def columns_of(data: DataConfig) -> Columns:
    """Return which columns hold what, in anybody's data."""
    return Columns(
        image=data.image,
        label=data.label,
        text=data.text,
        text_pair=data.text_pair,
        names=data.columns,
        strip=data.strip,
    )


def _client_column(partition: PartitionConfig) -> str | None:
    return (partition.column or CLIENT) if partition.kind == "column" else None


def share_out(config: Config, dataset: Dataset, boards: Boards) -> Sequence[Rows]:
    """Return each client's rows of the train split: to train on, held back."""
    labels, seed = dataset.train.y, config.seed
    held = natural_holdings(config, dataset, boards)
    if dataset.declared:
        return DeclaredRows(
            len(labels), _weights(config, boards), classes=len(dataset.classes), share=config.data.local_test, seed=seed
        )
    if held is not None:
        parts = [holding.rows for holding in held]
    else:
        scheme = PartitionScheme(**config.data.partition.model_dump(exclude={"column"}))
        parts = partition(labels, scheme=scheme, shares=[board.shares for board in boards], seed=seed)
    share = config.data.local_test
    return tuple(
        hold_back(part, labels, share, stream_seed(seed, "local test", client), owner=f"client {client}")
        for client, part in enumerate(parts)
    )


def natural_holdings(config: Config, dataset: Dataset, boards: Boards) -> list[Holding] | None:
    """Return whose training data each board holds; None unless the data are shared out by that."""
    clients = dataset.train.clients
    if clients is None:
        return None
    return holdings(clients, weights=_weights(config, boards).tolist(), min_samples=config.data.partition.min_samples)


def _weights(config: Config, boards: Boards) -> NDArray[np.int64]:
    if not config.data.partition.pseudo_clients:
        return np.ones(len(boards), np.int64)
    return boards.of_kinds(lambda board: board.shares)


def model_shape(config: Config, dataset: Dataset, checkpoint: Checkpoint | None = None) -> TransformerShape:
    """Return the model's integers for the samples of ``dataset``; ConfigError if they do not go together."""
    try:
        if isinstance(config.model, ModelConfig):
            return _fresh_shape(config.model, config.method.model_variant, dataset)
        assert checkpoint is not None
        return _pretrained_shape(config.model, config.method.model_variant, dataset, checkpoint)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def _pretrained_shape(
    model: PretrainedConfig, variant: str, dataset: Dataset, checkpoint: Checkpoint
) -> TransformerShape:
    architecture = checkpoint.architecture
    shape: Any = architecture.shape(
        classes=len(dataset.classes),
        exits=model.exits or architecture.exits or quarter_exits(architecture.blocks),
        pooling=model.pooling,
        variant=variant,
        sample_shape=dataset.sample_shape,
        vocabulary=dataset.vocabulary,
        padding=dataset.padding,
    )
    found: TransformerShape = replace(shape, adapters=model.adapters)
    return found


def _fresh_shape(model: ModelConfig, variant: str, dataset: Dataset) -> TransformerShape:
    encoder: dict[str, Any] = {
        "classes": len(dataset.classes),
        "dim": model.dim,
        "blocks": model.blocks,
        "heads": model.heads,
        "hidden": model.hidden,
        "exits": model.exits or quarter_exits(model.blocks),
        "pooling": model.pooling,
        "variant": variant,
        **({} if model.adapters is None else {"adapters": model.adapters}),
    }
    if dataset.kind == "images":
        return ViTShape(**_image_input(model.patch, dataset), **encoder)
    if dataset.kind == "series":
        return SeriesShape(**_series_input(model.patch, dataset), **encoder)
    return TextShape(**_text_input(model.patch, dataset), **encoder)


def _image_input(patch: int | None, dataset: Dataset) -> dict[str, Any]:
    if patch is None:
        raise ConfigError(
            f"model.patch: is missing: {dataset.name} has images, which are cut into patches of that side"
        )
    channels, height, width = dataset.sample_shape
    if height != width:
        advice = "set data.image_size" if dataset.resizable else "pad or resize the arrays to (N, H, H[, C])"
        if channels == 1 and not dataset.resizable:
            advice += f"; if they are series of {height} steps, say data.kind: series"
        raise ConfigError(f"data.name: {dataset.name} has images of {height} x {width}; they must be square: {advice}")
    return {"image": height, "patch": patch, "channels": channels}


def _series_input(patch: int | None, dataset: Dataset) -> dict[str, Any]:
    steps, channels = dataset.sample_shape
    if patch is None:
        raise ConfigError(
            f"model.patch: is missing: {dataset.name} has series of {steps} steps, cut into patches of so many"
        )
    return {"steps": steps, "patch": patch, "channels": channels}


def _text_input(patch: int | None, dataset: Dataset) -> dict[str, Any]:
    if patch is not None:
        raise ConfigError(f"model.patch: {dataset.name} has texts, which have no patches: remove the key")
    assert dataset.vocabulary is not None
    return {"vocabulary": dataset.vocabulary, "length": dataset.sample_shape[0], "padding": dataset.padding}


def single_thread() -> None:
    """Give torch and numpy one thread each: processes, not threads, use the cores, and the bits stay the same."""
    torch.set_num_threads(1)
    threadpool_limits(1)
