"""Weights are cut out when they are asked for."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import TINY, random_state, shapes_and_plans

from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.compression import WEIGHTS, CompressionSettings
from cosp.task.cut import Cut
from cosp.task.task import Task


@given(shapes_and_plans(), st.sampled_from(sorted(WEIGHTS)))
def test_it_is_what_extracting_at_once_gives(pair, down):
    shape, plan = pair
    compression, model = CompressionSettings(down=down), random_state(shape)
    cut = Cut(model, layout_of(shape), Task("train", 0, 0, 0, 0, shape, plan, compression=compression))
    whole = extract(model, layout_of(shape), plan)
    assert list(cut) == list(whole)
    assert all(torch.equal(cut[name], compression.received(tensor)) for name, tensor in whole.items())


@given(shapes_and_plans())
def test_nothing_is_cut_before_and_nothing_kept(pair):
    shape, plan = pair
    model = random_state(shape)
    cut = Cut(model, layout_of(shape), Task("train", 0, 0, 0, 0, shape, plan))
    name = next(iter(cut))
    model[name] = torch.zeros_like(model[name])
    assert len(cut) == len(list(cut.values()))
    assert not cut[name].any()


def test_a_dry_run_has_nothing_to_cut():
    assert not Cut({}, {}, Task("train", 0, 0, 0, 0, TINY, TINY.full_plan()))
