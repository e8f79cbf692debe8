"""Methods of adapters: which ranks boards train, how updates count, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from small_models import random_state
from small_settings import MODEL, introduction, plan_of, setting

from cosp.errors import ConfigError
from cosp.fleet.introduction import Introduction
from cosp.methods import Assignment, FedAvgLoRA, FlexLoRA, FLoRA, HetLoRA, Setting
from cosp.methods.low_rank import LowRank
from cosp.server.coordinator import Coordinator
from cosp.submodel.adapters import Adapters
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import Frozen
from cosp.submodel.low_rank import drawn, norm_of_products
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.demand import download_bytes, upload_bytes
from cosp.task.training import TrainSettings

SHAPE = replace(MODEL, adapters=Adapters(rank=8))
TRAINING = TrainSettings(frozen=("trunk",))
FAMILY: Sequence[type[LowRank]] = (FedAvgLoRA, HetLoRA, FlexLoRA, FLoRA)


def run_of(*keeps: float | None, memories: Sequence[int] = ()) -> Setting:
    clients = tuple(
        introduction(client, keep, memory_bytes=memory)
        for client, (keep, memory) in enumerate(zip(keeps, memories or (10**9,) * len(keeps), strict=True))
    )
    return replace(setting(1.0), model=SHAPE, training=TRAINING, clients=clients)


def trained_bytes(ranks: int) -> int:
    counts = prefix_plan(replace(SHAPE.sizes, ranks=ranks), SHAPE.blocks).counts
    return footprint(SHAPE, counts, frozen=Frozen(trunk=True)).training_bytes(TRAINING.batch_size, "adamw")


def ranks_of(method: LowRank, run: Setting) -> list[int]:
    built = method.build(run)
    plans = [plan_of(built, client) for client in run.clients]
    assert all(plan.depth == SHAPE.blocks for plan in plans)
    whole = SHAPE.full_plan().blocks[0]
    for plan in plans:
        assert {replace(block, ranks=whole.ranks) for block in plan.blocks} == {whole}
    return [plan.blocks[0].ranks[-1] + 1 for plan in plans]


def test_of_a_keep_ratio_a_board_trains_that_share_of_the_ranks():
    run = run_of(0.25, 0.5, 1.0)
    assert ranks_of(HetLoRA(), run) == [2, 4, 8]
    assert ranks_of(FedAvgLoRA(), run) == [2, 2, 2]
    assert ranks_of(HetLoRA(), run_of(0.01)) == [1]


@pytest.mark.parametrize("method", FAMILY)
def test_of_memory_a_board_trains_the_most_ranks_that_fit(method: type[LowRank]):
    run = run_of(None, None, memories=(trained_bytes(3), 10**9))
    assert ranks_of(method(), run) == ([3, 3] if method is FedAvgLoRA else [3, 8])


def test_a_share_of_memory_is_one_of_what_the_whole_model_trains_in():
    whole = footprint(SHAPE, SHAPE.full_plan().counts).training_bytes(TRAINING.batch_size, "adamw")
    share = trained_bytes(5) / whole + 1e-6
    assert ranks_of(HetLoRA(), replace(run_of(share), assignment=Assignment(rule="memory_share"))) == [5]


@pytest.mark.parametrize("method", FAMILY)
def test_a_board_that_holds_no_trunk_is_named_or_left_out(method: type[LowRank]):
    run = run_of(None, None, memories=(trained_bytes(1) - 1, 10**9))
    with pytest.raises(ConfigError, match=r"^client 0 \(nano, wifi\): .* do not hold the frozen trunk") as error:
        method().build(run)
    assert "\n" not in str(error.value)
    built = method(boards="fitting").build(run)
    assert [built.takes_part(client) for client in run.clients] == [False, True]
    with pytest.raises(ConfigError, match="do not hold the frozen trunk"):
        method(boards="fitting").build(replace(run, clients=run.clients[:1]))


def test_a_target_that_takes_blocks_away_is_refused():
    rule = Assignment(rule="memory", target_round_s=1.0, round_s=lambda client, shape: 0.5)
    with pytest.raises(ConfigError, match="keeps every block"):
        HetLoRA().build(replace(run_of(None), assignment=rule))


def test_of_a_time_a_board_trains_the_most_ranks_that_keep_it():
    rule = Assignment(rule="time", target_round_s=5.5, round_s=lambda client, shape: float(shape.counts.ranks))
    assert ranks_of(HetLoRA(), replace(run_of(None), assignment=rule)) == [5]
    slow = Assignment(rule="time", target_round_s=0.5, round_s=lambda client, shape: float(shape.counts.ranks))
    with pytest.raises(ConfigError, match=r"not even adapters of rank 1 .* within assignment\.target_round_s"):
        HetLoRA().build(replace(run_of(None), assignment=slow))


@pytest.mark.parametrize("method", [FlexLoRA, FLoRA])
def test_products_are_merged_by_their_mean_alone(method: type[LowRank]):
    with pytest.raises(ConfigError, match=r"method\.merge\.rule: must be mean"):
        method.model_validate({"merge": {"rule": "median"}}).build(run_of(1.0))


def server(method: LowRank, clients: Sequence[Introduction]) -> Coordinator:
    run = replace(run_of(1.0), clients=tuple(clients))
    return Coordinator(
        shape=SHAPE, method=method.build(run), training=TRAINING, model={**random_state(SHAPE), **drawn(SHAPE, 1)},
        clients=clients, seed=1,
    )  # fmt: skip


def update_of(coordinator: Coordinator, client: int, seed: int) -> tuple[object, dict[str, torch.Tensor]]:
    task = coordinator.next_task(client)
    some = extract(random_state(SHAPE, seed), layout_of(SHAPE), task.plan)
    return task, {name: some[name] for name in task.trained_spans}


def test_an_update_of_hetlora_counts_by_what_its_adapters_make():
    coordinator = server(HetLoRA(), [introduction(0, 0.25), introduction(1, 1.0)])
    for client in (0, 1):
        task, delta = update_of(coordinator, client, seed=client)
        began = extract(coordinator.model, layout_of(SHAPE), task.plan)
        made = {name: began[name] + change for name, change in delta.items()}
        weight = coordinator.take_update(task, delta, samples=100)
        assert weight == pytest.approx(norm_of_products(made, SHAPE))
    plain = server(HetLoRA(by_norm=False), [introduction(0, 0.25)])
    assert plain.take_update(*update_of(plain, 0, seed=3), samples=100) == 100.0


@pytest.mark.parametrize("method", FAMILY)
def test_versions_move_adapters_and_exits_and_only_flora_the_trunk(method: type[LowRank]):
    coordinator = server(method(), [introduction(0, 0.5), introduction(1, 1.0)])
    before = coordinator.model
    for client in (0, 1):
        coordinator.take_update(*update_of(coordinator, client, seed=client), samples=100)
    coordinator.close_round(in_flight=[])
    moved = {name for name in before if not torch.equal(before[name], coordinator.model[name])}
    trained = {name for name in before if ".adapters." in name or name.startswith("exits.")}
    weights = {
        f"blocks.{b}.{name}" for b in range(4) for name in ("attention.qkv_weight", "ffn.up.weight", "ffn.down.weight")
    }
    drawn_again = {name for name in trained if name.endswith(".b") and ".adapters." in name}
    assert moved == ((trained | weights) - drawn_again if method is FLoRA else trained)


def test_a_later_task_brings_adapters_alone_and_of_flora_the_adapted_weights_too():
    found = {}
    for method in (HetLoRA, FLoRA):
        coordinator = server(method(), [replace(introduction(0, 1.0), keeps_frozen=True)])
        task, delta = update_of(coordinator, 0, seed=1)
        whole = download_bytes(task)
        coordinator.note_kept(task)
        coordinator.take_update(task, delta, samples=100)
        coordinator.close_round(in_flight=[])
        later = coordinator.next_task(0)
        found[method] = whole, download_bytes(later), len(later.kept), upload_bytes(later)
        weights = coordinator.weights(later)
        assert download_bytes(later) < whole
        assert torch.equal(weights["blocks.0.ffn.up.weight"], coordinator.model["blocks.0.ffn.up.weight"])
    adapted = 4 * 4 * (3 * 64 * 64 + 2 * 64 * 256)
    (_, low, kept, up), (_, high, fewer, same) = found[HetLoRA], found[FLoRA]
    assert kept - fewer == 12
    assert high - low == adapted - 16 * 12
    assert up == same
