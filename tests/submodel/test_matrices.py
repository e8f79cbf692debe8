from __future__ import annotations

import pytest
import torch
from hypothesis import given
from small_models import SMALL, shapes_and_plans

from cosp.submodel.flat import spans_of
from cosp.submodel.matrices import all_matrices, block_matrices, marked, marked_count, signed_weights
from cosp.submodel.shape import layout_of

MATRICES = ("attention.qkv_weight", "attention.out.weight", "ffn.up.weight", "ffn.down.weight")


def test_the_matrices_of_a_model_by_name():
    layout = layout_of(SMALL)
    blocks = {f"blocks.{b}.{name}" for b in range(3) for name in MATRICES}
    assert {name for name, entry in layout.items() if block_matrices(name, entry)} == blocks
    others = {"inputs.weight", *(f"exits.{i}.head.weight" for i in range(3))}
    assert {name for name, entry in layout.items() if all_matrices(name, entry)} == blocks | others


@given(shapes_and_plans())
def test_marks_lie_where_the_tensors_do(shape_and_plan):
    shape, plan = shape_and_plan
    marks, layout = marked(shape, plan.counts, all_matrices), layout_of(shape)
    for name, span in spans_of(layout, plan.counts).items():
        assert set(marks[span.start : span.stop].tolist()) == {all_matrices(name, layout[name])}
    assert int(marks.sum()) == marked_count(shape, plan.counts, all_matrices)


def test_frozen_weights_are_known_from_the_seed():
    first, again, other = signed_weights(SMALL, 1), signed_weights(SMALL, 1), signed_weights(SMALL, 2)
    up = "blocks.0.ffn.up.weight"
    assert torch.equal(first[up], again[up])
    assert not torch.equal(first[up], other[up])
    assert first[up].abs().unique().tolist() == pytest.approx([8**-0.5])
    assert "blocks.0.norm1.weight" not in first
