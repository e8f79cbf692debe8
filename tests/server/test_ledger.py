from __future__ import annotations

import json

import pytest

from cosp.server.evaluation import Evaluation
from cosp.server.ledger import Ledger

ROW = {
    "client": 2, "board": "nano", "task": "train", "accepted": True, "reason": None, "staleness": 1, "bytes_down": 100,
    "bytes_up": 90, "energy_j": 5.0, "sent_s": 10.0, "arrived_s": 14.0, "peak_memory_bytes": 7,
    "local_accuracy_trained": 0.5,
}  # fmt: skip


def ledger_of(*rows: dict) -> Ledger:
    ledger = Ledger()
    for row in rows:
        ledger.count_task({**ROW, **row})
    return ledger


def test_totals_by_hand():
    ledger = ledger_of({}, {"client": 3, "arrived_s": 20.0, "peak_memory_bytes": 5}, {"board": "tx2"})
    assert (ledger.bytes_down, ledger.bytes_up, ledger.energy_j) == (300, 270, 15.0)
    assert ledger.busy_s == {"2": 8.0, "3": 10.0}
    assert ledger.peak_memory_bytes == {"nano": 7, "tx2": 7}


def test_staleness_counts_accepted_training_and_refusals_count_by_reason():
    refused = {"accepted": False, "reason": "stale", "staleness": 9, "local_accuracy_trained": 0.9}
    ledger = ledger_of({}, {}, {"staleness": 0}, {"task": "score"}, refused, refused)
    assert ledger.staleness == {"1": 2, "0": 1}
    assert ledger.refused == {"stale": 2}
    assert ledger.local_accuracy == {"2": 0.5}


def test_local_accuracy_is_the_latest_of_each_client():
    rows = [{"client": c, "local_accuracy_trained": a} for c, a in [(0, 0.1), (0, 0.4), (10, 0.8), (2, 0.6)]]
    assert ledger_of(*rows).local() == pytest.approx({"mean": 0.6, "worst_decile": 0.44})
    assert Ledger().local() is None


def test_a_failure_is_busy_time_without_a_result():
    ledger = ledger_of({})
    ledger.count_failure(2, "timeout", 6.0)
    assert (ledger.busy_s, ledger.refused, ledger.bytes_up) == ({"2": 10.0}, {"timeout": 1}, 90)


def test_a_lost_task_counts_what_it_used():
    ledger, before = ledger_of({}), ledger_of({})
    ledger.count_failure(2, "off", 6.0, {"energy_j": 2.5, "bytes_down": 7, "bytes_up": 3})
    assert ledger.energy_j == before.energy_j + 2.5
    assert (ledger.bytes_down - before.bytes_down, ledger.bytes_up - before.bytes_up) == (7, 3)


def test_utilisation_by_hand():
    ledger = ledger_of({})
    assert ledger.utilisation_at(20.0, clients=2, running_s=6.0) == pytest.approx((4 + 6) / 40)
    assert Ledger().utilisation_at(0.0, clients=2, running_s=0.0) == 0.0


def evaluation(deepest: float, validation: float = 0.5) -> Evaluation:
    return Evaluation([0.9, deepest], [1.0, 1.0], [0.5, 0.5], 0.8, 0, 0.9, [0.1, validation])


def test_the_best_is_by_validation_whatever_the_test_data_say_and_the_first_at_a_tie():
    ledger = Ledger()
    for deepest, validation in ((0.9, 0.5), (0.6, 0.7), (0.8, 0.7), (0.7, 0.6)):
        ledger.note_evaluation(evaluation(deepest, validation))
    assert ledger.final["global"]["accuracy"] == [0.9, 0.7]
    assert ledger.best["global"]["accuracy"] == [0.9, 0.6]


def test_a_ledger_survives_json():
    ledger = ledger_of({}, {"accepted": False, "reason": "stale"})
    ledger.note_evaluation(evaluation(0.5))
    assert Ledger(**json.loads(json.dumps(ledger.as_json()))) == ledger
