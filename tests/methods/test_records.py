from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.fleet.introduction import Introduction
from cosp.methods import records
from cosp.methods.clients import ClientRecord
from cosp.methods.records import Records, packed, unpacked


def client(number: int, memory_bytes: int = 1000) -> Introduction:
    return Introduction(
        client=number, board="nano", link="wifi", keep=0.5, memory_bytes=memory_bytes, samples=4, test_samples=1,
        class_counts=(4,), idle_w=float(number),
    )  # fmt: skip


CLIENTS = tuple(map(client, (2, 3, 5, 9)))  # numbers need not follow one another


@given(st.lists(st.tuples(st.sampled_from([2, 3, 5, 9]), st.integers(0, 3)), max_size=40))
def test_it_says_what_a_table_of_objects_would_say(steps):
    plain = {one.client: ClientRecord(introduction=one) for one in CLIENTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "KEPT", 1)  # nearly all are rows
        ours = Records(CLIENTS)
        for number, act in steps:
            for table in (plain, ours):
                record = table[number]
                record.tasks += act
                if act == 1:
                    record.scores = ({"heads": np.array([1.0, 0.1]), "hidden": np.full(3, record.tasks / 3)},)
                elif act == 2:
                    record.sits_out, record.last_version = "too small", record.tasks
                elif act == 3:
                    record.sits_out = None
            ours.put_away(number)
    assert list(ours) == list(plain)
    assert ours.sitting_out == tuple(number for number, record in plain.items() if record.sits_out)
    assert ours.begun() == [number for number, record in plain.items() if record.tasks]
    known = [(number, str(record.scores)) for number, record in plain.items() if record.scores]
    assert [(number, str(scores)) for number, scores in ours.scores()] == known
    for number, record in plain.items():
        assert str(ours[number]) == str(record)


def test_a_record_that_somebody_holds_stays_theirs_while_all_are_looked_through():
    ours = Records(CLIENTS)
    held = ours[3]
    list(ours.scores()), ours.begun()
    held.tasks += 1
    assert ours[3].tasks == 1
    assert ours.begun() == [3]


def test_what_a_client_can_afford_by_now_outlives_its_object(monkeypatch):
    monkeypatch.setattr(records, "KEPT", 0)
    ours = Records(CLIENTS)
    ours.introduce(5, client(5, memory_bytes=7))
    ours.put_away(5)
    assert (ours[5].introduction.memory_bytes, ours[9].introduction.memory_bytes) == (7, 1000)
    assert ours.begun() == [5]


def test_scores_that_came_in_a_message_take_four_bytes_each_and_others_lose_nothing():
    for values, dtype in (([0.5, 0.25], np.float32), ([0.1, 0.2], np.float64)):
        kept = packed(({"heads": np.array(values)}, {"heads": np.array(values)}))
        assert kept[1].dtype == dtype
        assert [block["heads"].tolist() for block in unpacked(kept)] == [values, values]
