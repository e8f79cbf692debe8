"""The numbers behind the figures, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from cosp.report.about import untrained_text
from cosp.report.figure_accuracy import exit_lines
from cosp.report.figure_rounds import coverage_grid
from cosp.report.figure_timeline import window_s
from cosp.report.rows import Arrival, Client, Header, Metrics, Result, Round, Run, Scores, UnderWay
from cosp.report.spans import Span, clip, shares_of_time, spans, spans_of, utilisation
from cosp.report.style import PALETTE, ramp
from cosp.report.summary import summarise
from cosp.report.tallies import board_totals, refused_counts, sample_clients, staleness_counts, untrained_blocks
from cosp.report.told import Told, told
from cosp.report.units import duration, percent, quantity, tick, time_unit


def arrival(client: int = 0, sent_s: float = 0.0, **changes: Any) -> Arrival:
    """A training task: 1 s down, 4 s computing, 2 s up."""
    facts: dict[str, Any] = {"client": client, "task": "train", "base_version": 0, "version": 0, "staleness": 0}
    facts |= {"accepted": True, "reason": None, "samples": 10, "loss": 0.5, "depth": 2, "parameters": 50}
    facts |= {"sent_s": sent_s, "download_s": 1.0, "compute_s": 4.0, "upload_s": 2.0, "arrived_s": sent_s + 7.0}
    facts |= {"bytes_down": 100, "bytes_up": 80, "energy_j": 3.0, "peak_memory_bytes": 1000}
    return Arrival(**(facts | {"local_accuracy_received": None, "local_accuracy_trained": None} | changes))


def closed(version: int, virtual_s: float, *, coverage: tuple[float, ...] = (), scores: Scores | None = None) -> Round:
    return Round(
        version=version, virtual_s=virtual_s, closed_by="quorum", arrivals=1, coverage=coverage, evaluation=scores,
        bytes_down=10 * version, bytes_up=8 * version, energy_j=2.0 * version, utilisation=0.5,
    )  # fmt: skip


def scores(*accuracy: float, mean: float = 0.0, chosen: int = 0, validation: tuple[float, ...] = ()) -> Scores:
    return Scores(
        accuracy=accuracy, mean_accuracy=mean, chosen_exit=chosen, chosen_accuracy=accuracy[chosen],
        validation_accuracy=validation,
    )  # fmt: skip


def run_of(
    *, arrivals: tuple[Arrival, ...] = (), rounds: tuple[Round, ...] = (), clients: int = 2, **changes: Any
) -> Run:
    header = Header(
        name="tiny", method="cosp", seed=0, clients=clients, blocks=2, exits=(1, 2), classes=("a", "b"), parameters=100,
        quorum=0.5, versions=2, training_bytes=1600,
    )  # fmt: skip
    boards = tuple(
        Client(client=i, board="nano", link="wifi", keep=0.5, samples=10, test_samples=2,
            class_counts=(5, 5), memory_bytes=2000)
        for i in range(clients)
    )  # fmt: skip
    facts: dict[str, Any] = {"metrics": None, "config": None} | changes
    return Run(header=header, clients=boards, arrivals=arrivals, rounds=rounds, **facts)


def ended(*under_way: UnderWay) -> Metrics:
    return Metrics(final=Result(), best=Result(), wall_time_s=1.0, under_way=under_way)


def test_a_task_is_three_spans_without_a_gap() -> None:
    assert list(spans([arrival(sent_s=10.0)])) == [
        Span(0, "received", 10.0, 11.0),
        Span(0, "trained", 11.0, 15.0),
        Span(0, "sent", 15.0, 17.0),
    ]


def test_scoring_is_told_apart_from_training() -> None:
    assert [span.phase for span in spans([arrival(task="score")])] == ["received", "scored", "sent"]


def test_clip_cuts_the_span_that_crosses_the_end_and_drops_later_ones() -> None:
    assert list(clip([Span(0, "sent", 1.0, 5.0), Span(0, "sent", 6.0, 7.0)], 3.0)) == [Span(0, "sent", 1.0, 3.0)]


def test_shares_of_time_sum_to_one_and_the_rest_waited() -> None:
    run = run_of(arrivals=(arrival(client=0),), rounds=(closed(1, 10.0),))
    shares = shares_of_time(run)
    shown = {"received": 0.1, "trained": 0.4, "sent": 0.2, "waited": 0.3}
    shown |= {"scored": 0.0, "summed": 0.0, "still under way": 0.0}
    assert shares[0] == pytest.approx(shown)
    assert shares[1]["waited"] == 1.0


def test_utilisation_is_busy_time_over_clients_times_virtual_time() -> None:
    run = run_of(
        arrivals=(arrival(client=0), arrival(client=1), arrival(client=0, sent_s=8.0)), rounds=(closed(1, 10.0),)
    )
    assert utilisation(run) == pytest.approx((7 + 7 + 2) / (2 * 10))  # the third task ran 2 s before the end


def test_a_task_under_way_at_the_end_is_work_and_no_waiting() -> None:
    late = UnderWay(client=0, task="train", sent_s=7.0)
    run = run_of(arrivals=(arrival(client=0),), rounds=(closed(1, 10.0),), metrics=ended(late))
    assert list(spans_of(run))[-1] == Span(0, "still under way", 7.0, 10.0)
    assert shares_of_time(run)[0]["still under way"] == pytest.approx(0.3)
    assert shares_of_time(run)[0]["waited"] == pytest.approx(0.0)
    assert utilisation(run) == pytest.approx((7 + 3) / (2 * 10))


def test_the_mark_of_memory_is_what_binds() -> None:
    config = "assignment: {rule: memory_share}"
    assert [t.limit_bytes for t in board_totals(run_of())] == [2000, 2000]
    assert [t.limit_bytes for t in board_totals(run_of(told=told(config)))] == [800, 800]  # half of 1600
    mixed = run_of(told=told(config + "\ntraining: {precision: mixed}"))  # of which no row says what the whole holds
    assert [t.limit_bytes for t in board_totals(mixed)] == [2000, 2000]


def test_a_block_that_no_update_trained_is_named() -> None:
    never = tuple(closed(v, float(v), coverage=(1.0, 0.0)) for v in (1, 2))
    assert untrained_blocks(run_of(rounds=never)) == (2,)
    assert untrained_text(run_of(rounds=never)).startswith(
        "Trained by nobody: block 2. The accuracies of the exit after"
    )
    once = (*never, closed(3, 3.0, coverage=(0.5, 0.1)))
    assert untrained_blocks(run_of(rounds=once)) == ()
    assert untrained_text(run_of(rounds=once)) == ""
    assert untrained_blocks(run_of()) == ()  # nothing was merged yet


def test_staleness_counts_leave_no_gap_and_no_scoring_task() -> None:
    rows = [
        arrival(),
        arrival(staleness=3, accepted=False, reason="stale"),
        arrival(),
        arrival(task="score", staleness=1),
    ]
    assert staleness_counts(rows) == {0: (2, 0), 1: (0, 0), 2: (0, 0), 3: (0, 1)}
    assert staleness_counts([]) == {}


def test_refused_counts_start_with_the_most_frequent_reason() -> None:
    rows = [arrival(accepted=False, reason=reason) for reason in ("stale", "error:X", "stale")]
    assert list(refused_counts([*rows, arrival()]).items()) == [("stale", 2), ("error:X", 1)]


def test_board_totals_add_up_and_keep_the_last_local_accuracy() -> None:
    first = arrival(local_accuracy_received=0.1, local_accuracy_trained=0.2, staleness=1)
    last = arrival(local_accuracy_received=0.5, local_accuracy_trained=0.6, peak_memory_bytes=1500, accepted=False)
    busy, idle = board_totals(run_of(arrivals=(first, last)))
    assert (busy.tasks, busy.refused, busy.mean_staleness, busy.peak_memory_bytes) == (2, 1, 0.5, 1500)
    assert (busy.bytes_down, busy.bytes_up, busy.energy_j, busy.parameters) == (200, 160, 6.0, 50)
    assert (busy.received, busy.trained) == (0.5, 0.6)
    assert (idle.tasks, idle.mean_staleness, idle.parameters) == (0, None, None)


def test_exit_lines_hold_evaluated_rounds_only() -> None:
    rounds = (
        closed(0, 0.0, scores=scores(0.1, 0.2, mean=0.3)),
        closed(1, 5.0),
        closed(2, 9.0, scores=scores(0.4, 0.5, mean=0.6, chosen=1)),
    )
    lines = exit_lines(run_of(rounds=rounds), lambda row: row.virtual_s)
    assert [line.name for line in lines] == ["after block 1", "after block 2", "mean of exits", "chosen exit"]
    assert all(line.x == (0.0, 9.0) for line in lines)
    assert [line.y for line in lines] == [(0.1, 0.4), (0.2, 0.5), (0.3, 0.6), (0.1, 0.5)]


def test_coverage_grid_leaves_out_the_version_before_training() -> None:
    edges, grid = coverage_grid(
        [closed(0, 0.0, coverage=(0.0, 0.0)), closed(1, 1.0, coverage=(1.0, 0.5)), closed(2, 2.0, coverage=(0.0, 0.25))]
    )
    assert (edges, grid.tolist()) == ([0.5, 1.5, 2.5], [[1.0, 0.0], [0.5, 0.25]])


def test_coverage_of_many_versions_is_averaged_in_groups() -> None:
    edges, grid = coverage_grid([closed(v, 1.0, coverage=(float(v % 2),)) for v in range(1, 301)])
    assert (len(edges), grid.shape) == (151, (1, 150))
    assert grid.tolist() == [[0.5] * 150]


def test_the_timeline_ends_where_the_busiest_board_has_60_tasks() -> None:
    many = tuple(arrival(sent_s=10.0 * i) for i in range(70))
    assert window_s(run_of(arrivals=many, rounds=(closed(1, 700.0),))) == 10.0 * 59 + 7.0
    assert window_s(run_of(arrivals=many[:59], rounds=(closed(1, 700.0),))) == 700.0


def test_the_best_round_is_the_one_whose_chosen_exit_validation_prefers() -> None:
    found = [scores(0.0, a, validation=(v, 1.0)) for a, v in ((0.9, 0.1), (0.1, 0.8), (0.7, 0.8))]
    summary = summarise(run_of(rounds=tuple(closed(v, float(v), scores=one) for v, one in enumerate(found))))
    assert (summary.best, summary.final) == (found[1], found[2])
    assert (summary.rounds, summary.virtual_s, summary.bytes_down, summary.energy_j) == (2, 2.0, 20, 4.0)


def test_test_data_choose_no_best_round() -> None:
    assert summarise(run_of(rounds=(closed(0, 0.0, scores=scores(0.9)),))).best is None


def test_a_sample_of_clients_runs_from_the_first_to_the_last() -> None:
    assert sample_clients(3, 5) == [0, 1, 2]
    assert sample_clients(101, 5) == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(
    ("span_s", "name"), [(7200, "hours"), (7199, "minutes"), (120, "minutes"), (119, "seconds"), (0, "seconds")]
)
def test_time_axis_unit(span_s: float, name: str) -> None:
    assert time_unit(span_s).name == name


def test_numbers_as_people_read_them() -> None:
    assert (quantity(1_530_000, "B"), quantity(999, "B"), quantity(0, "J"), quantity(None, "B")) == (
        "1.53 MB",
        "999 B",
        "0 J",
        "–",
    )
    assert (tick(2_500_000_000, "B"), tick(3e9, "B"), tick(0, "B")) == ("2.5 GB", "3 GB", "0")
    assert (duration(5400), duration(7200), duration(42.5), duration(None)) == ("90 min", "2 h", "42.5 s", "–")
    assert (percent(0.9155), percent(None)) == ("91.5 %", "–")


def test_every_colour_of_the_light_page_is_used_once_so_that_it_names_its_variable() -> None:
    light = [pair[0] for pair in PALETTE.values()]
    assert len(set(light)) == len(light)


def test_the_deepest_exit_is_always_the_darkest_blue() -> None:
    assert {ramp(exits - 1, exits) for exits in range(1, 13)} == {PALETTE["exit5"][0]}
    assert len({ramp(i, 6) for i in range(6)}) == 6


def test_a_configuration_is_read_as_far_as_it_goes() -> None:
    text = """
title: Shirts
data: {name: fashion, partition: {kind: dirichlet, alpha: 0.5, classes_per_client: 2}}
fleet: {boards: []}
model: {dim: 64, heads: 4, hidden: 256, patch: null}
method: {name: co-s2p, budget: flops}
"""
    assert told(text) == Told(
        title="Shirts", data="fashion", partition="dirichlet 0.5", model="dim 64, heads 4, hidden 256", budget="flops"
    )
    for odd in (None, "", "3", "[1", "data: 3\nmethod: cosp\ntitle: [1]"):
        assert told(odd) == Told()
