"""FedAvg and what differs from it in the local loss or in the merge alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import SMALL, random_state, random_update
from small_settings import MODEL, introduction, plan_of, setting

from cosp.errors import ConfigError
from cosp.merge.staleness import Arrival
from cosp.methods import FedAsync, FedAvg, FedBuff, FedProx, Method
from cosp.models import TextShape
from cosp.server.coordinator import Coordinator
from cosp.submodel.footprint import footprint
from cosp.task.training import TrainSettings

KEEPS = (0.25, 0.5, 1.0)


def arrival(staleness: int, samples: int = 10) -> Arrival:
    return Arrival(staleness=staleness, waited=1, samples=samples, keep=1.0, delta_l1=lambda: 1.0, drift_l1=lambda: 1.0)


def server(method: Method, clients: int) -> Coordinator:
    return Coordinator(
        shape=SMALL,
        method=method,
        training=TrainSettings(),
        model=random_state(SMALL),
        clients=[introduction(n, 1.0) for n in range(clients)],
        seed=1,
    )


def one_version_late(method: Method) -> tuple[Coordinator, dict[str, torch.Tensor]]:
    """A server at version 1, and the update (of seed 2) of a client that started from version 0."""
    coordinator = server(method, clients=2)
    quick, slow = coordinator.next_task(0), coordinator.next_task(1)
    coordinator.take_update(quick, random_update(SMALL, quick.plan, 1), samples=100)
    coordinator.close_round(in_flight=[slow])
    delta = random_update(SMALL, slow.plan, 2)
    coordinator.take_update(slow, delta, samples=50)
    return coordinator, delta


def test_only_boards_that_hold_the_whole_model_take_part_in_the_fitting_variant():
    run = setting(*KEEPS)
    method = FedAvg(submodel="fitting").build(run)
    assert [method.takes_part(client) for client in run.clients] == [False, False, True]
    assert plan_of(method, run.clients[2]) == MODEL.full_plan()
    assert all(FedAvg().build(run).takes_part(client) for client in run.clients)


def test_a_board_without_a_keep_ratio_fits_by_its_memory():
    run = setting(1.0)
    roomy, tight = introduction(0, None, memory_bytes=10**9), introduction(1, None, memory_bytes=2 * 10**6)
    method = FedAvg(submodel="fitting").build(replace(run, clients=(roomy, tight)))
    assert [method.takes_part(client) for client in (roomy, tight)] == [True, False]


def test_a_fleet_in_which_nobody_holds_the_whole_model_is_refused():
    with pytest.raises(ConfigError, match="leaves no board"):
        FedAvg(submodel="fitting").build(setting(0.25, 0.5))


def test_fedprox_differs_from_fedavg_by_its_proximal_term_alone():
    run = setting(*KEEPS)
    client = run.clients[0]
    record = server(FedProx().build(run), 1).records[0]
    prox, plain = FedProx(mu=0.1).build(run), FedAvg().build(run)
    assert prox.local.steps(record).proximal == 0.1
    assert FedProx(mu=0).build(run).local.steps(record) == plain.local.steps(record)
    assert plan_of(prox, client) == plan_of(plain, client)
    assert prox.merging.step == plain.merging.step


def test_fedasync_interpolates_exactly_between_the_model_and_the_trained_weights():
    """theta = (1 - a_s) theta + a_s theta_n with a_s = 0.6 (1 + 1)^-0.5, whatever the clients' sample counts."""
    coordinator, delta = one_version_late(FedAsync(alpha=0.6).build(setting(1.0, 1.0, model=SMALL)))
    first, now = random_state(SMALL), dict(coordinator.model)
    share = 0.6 * 2**-0.5
    coordinator.close_round(in_flight=[])
    for name, tensor in coordinator.model.items():
        expected = (1 - share) * now[name] + share * (first[name] + delta[name])
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


def test_fedasync_closes_a_round_at_every_arrival():
    assert FedAsync().build(setting(1.0)).merging.quorum == 1


def test_fedbuff_adds_the_mean_of_its_buffer_each_change_discounted_by_age():
    method = FedBuff(buffer=2, merge={"rate": 0.5}).build(setting(1.0, 1.0, model=SMALL))
    coordinator, late = one_version_late(method)
    before, task = dict(coordinator.model), coordinator.next_task(0)
    fresh = random_update(SMALL, task.plan, 3)
    coordinator.take_update(task, fresh, samples=1)
    coordinator.close_round(in_flight=[])
    assert method.merging.quorum == 2
    for name, tensor in coordinator.model.items():
        expected = before[name] + 0.5 * (2**-0.5 * late[name] + fresh[name]) / 2
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


def test_asynchronous_weights_know_age_and_no_samples():
    for method in (FedAsync().build(setting(1.0)), FedBuff().build(setting(1.0))):
        assert method.merging.weigh(arrival(3, samples=10)) == method.merging.weigh(arrival(3, samples=99)) == 0.5
        assert method.merging.mass(arrival(3)) == 1.0


def test_the_smallest_submodel_may_be_a_share_of_flops():
    words = TextShape(vocabulary=4000, length=31, classes=20, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))
    run = setting(0.4, 1.0, model=words)
    held = footprint(words, FedAvg(submodel="smallest", budget="flops").build(run).model.evaluated.counts)
    assert held.forward_flops <= 0.4 * footprint(words, words.full_plan().counts).forward_flops
    with pytest.raises(ConfigError, match="no submodel fits"):  # the table of words alone is more
        FedAvg(submodel="smallest").build(run)
