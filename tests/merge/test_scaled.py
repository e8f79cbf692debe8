"""Adding at memory speed against indexing the whole grid, to the bit."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import plans, random_state, random_update, shapes_and_plans

from cosp.merge import compiled, scaled
from cosp.merge.aggregation import is_finite, squares_of
from cosp.merge.scaled import add_scaled, square
from cosp.models import ViTShape
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import grid, kept_indices

SHAPE = ViTShape(image=4, patch=2, channels=1, classes=3, dim=8, blocks=2, heads=4, hidden=12, exits=(1, 2))
PIECES = (1, 3, 16, 64, 1 << 16)
lengths = st.sampled_from([1, 4, 1 << 13])


@pytest.fixture(params=PIECES)
def piece(request, monkeypatch):
    monkeypatch.setattr(scaled, "PIECE", request.param)


@pytest.fixture(params=["compiled", "without numba"])
def by_index(request, monkeypatch):
    """All that is cut is added by index."""
    for threshold, at in (("LONG", 1 << 30), ("SMALL", 0), ("LARGE", 0)):
        monkeypatch.setattr(scaled, threshold, at)
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(compiled, "loops", lambda: None)


def agrees(shape, plan, weight):
    layout = layout_of(shape)
    ours = {name: torch.zeros(entry.shape) for name, entry in layout.items()}
    for name, entry in layout.items():  # others have arrived before
        add_scaled(ours[name], (None,) * len(entry.shape), random_state(shape, 1)[name], 0.7)
    theirs = {name: tensor.clone() for name, tensor in ours.items()}
    for name, part in random_update(shape, plan, 2).items():
        kept = kept_indices(layout[name], plan)
        add_scaled(ours[name], kept, part, weight)
        theirs[name][grid(kept, layout[name].shape)] += weight * part
    return all(torch.equal(ours[name].view(torch.int32), theirs[name].view(torch.int32)) for name in layout)


@settings(max_examples=60)
@given(shapes_and_plans(), st.floats(1e-3, 1e5), st.sampled_from(PIECES), lengths, lengths, st.booleans())
def test_it_is_indexing_the_whole_grid_to_the_bit(pair, weight, size, length, small, compiles):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaled, "PIECE", size)
        patch.setattr(scaled, "LONG", length)
        patch.setattr(scaled, "SMALL", small)
        patch.setattr(scaled, "LARGE", 0)
        if not compiles:
            patch.setattr(compiled, "loops", lambda: None)
        assert agrees(*pair, weight)


@given(plans(SHAPE), st.floats(1e-3, 1e5))
def test_of_a_model_with_longer_runs_too(plan, weight):
    assert agrees(SHAPE, plan, weight)


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_nested_submodels_are_slices(piece, width, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a nested submodel is one run in each dimension")

    monkeypatch.setattr(scaled, "SMALL", 0)
    monkeypatch.setattr(scaled, "_add_by_index", refuse)
    assert agrees(SHAPE, prefix_plan(SHAPE.sizes.scaled(width), 2), 0.3)


def test_only_what_is_kept_is_touched():
    total, index = torch.tensor([0.0, 1.0, 0.0, 2.0]), torch.tensor([1, 3])
    add_scaled(total, (index,), torch.tensor([1.0, 1.0]), 2.0)
    assert total.tolist() == [0.0, 3.0, 0.0, 4.0]


def agrees_with_two_roundings(kept, rows, columns):
    generator = torch.Generator().manual_seed(0)
    part, total = torch.randn(rows, columns, generator=generator), torch.randn(9, 600, generator=generator)
    part[0, :3] = torch.tensor([math.inf, 1e-40, 3e38])
    wanted = total.numpy().copy()
    with np.errstate(over="ignore"):
        wanted[np.ix_(*(index.numpy() for index in kept))] += np.float32(1.7) * part.numpy()
    add_scaled(total, tuple(None if len(index) == 600 else index for index in kept), part, 1.7)
    return np.array_equal(total.numpy(), wanted)


@pytest.mark.parametrize("columns", [3, 500])
def test_products_are_rounded_before_they_are_added_by_whatever_part_of_a_kernel(columns):
    assert agrees_with_two_roundings((torch.arange(1, 8), torch.arange(2, 2 + columns)), 7, columns)


@pytest.mark.parametrize("rows", [[1], [0, 2, 3, 8], [0, 1, 4, 5, 6, 8]])  # entries are added to four rows at a time
def test_so_they_are_by_index(by_index, rows):
    entries = torch.arange(600)  # all, not every fifth, heads of 20
    for places in (entries, entries[entries % 5 != 1], entries[entries // 20 % 3 != 1]):
        assert agrees_with_two_roundings((torch.tensor(rows), places), len(rows), len(places))


def test_nothing_adds_nothing():
    total = torch.ones(2, 3)
    add_scaled(total, (torch.tensor([], dtype=torch.int64), None), torch.zeros(0, 3), 2.0)
    assert total.tolist() == [[1, 1, 1]] * 2


def test_a_matrix_that_is_cut_both_ways(by_index):
    total = torch.zeros(3, 4)
    add_scaled(total, (torch.tensor([0, 2]), torch.tensor([1, 3])), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 10.0)
    assert total.tolist() == [[0, 10, 0, 20], [0, 0, 0, 0], [0, 30, 0, 40]]


def test_a_small_model_compiles_nothing(monkeypatch):
    monkeypatch.setattr(compiled, "loops", lambda: pytest.fail("it takes a second"))
    assert agrees(SHAPE, prefix_plan(SHAPE.sizes.scaled(0.5), 1), 0.3)


def test_without_numba_there_are_no_loops(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled.loops.__wrapped__() is None


def test_a_loop_that_can_be_kept_nowhere_is_compiled_all_the_same():
    numba, made = pytest.importorskip("numba"), {}
    exec("def double(x):\n    x[0] *= 2", made)  # of no file, beside which it could be kept
    entries = np.array([3.0], dtype=np.float32)
    compiled._compiled(numba, "void(float32[::1])", made["double"])(entries)
    assert entries.tolist() == [6.0]


def test_what_lies_outside_is_refused_before_anything_is_written(by_index):
    total, entries = torch.zeros(3, 4), torch.tensor([1, 3])
    for rows, part in ((torch.tensor([0, 3]), torch.ones(2, 2)), (torch.tensor([-1, 1]), torch.ones(2, 2))):
        with pytest.raises(IndexError, match="of a dimension of 3"):
            add_scaled(total, (rows, entries), part, 1.0)
    with pytest.raises(ValueError, match="reshape"):
        add_scaled(total, (torch.tensor([0, 2]), entries), torch.ones(1, 2), 1.0)
    assert total.count_nonzero() == 0


def test_up_to_a_piece_a_square_is_torchs_own_to_the_bit():
    tensor = torch.randn(100, 7)
    assert square(tensor) == float(tensor.square().sum(dtype=torch.float64))


def test_a_square_in_pieces_is_the_same_sum(piece):
    tensor = torch.randn(100, 7)
    assert square(tensor) == pytest.approx(float(tensor.double().square().sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "finite"), [([1.0, -3e38], True), ([1.0, math.inf], False), ([math.nan, 0.0], False), ([], True)]
)
def test_what_is_finite_stays_so_where_its_square_overflows(values, finite):
    update = {"a": torch.tensor(values)}
    assert is_finite(update, squares_of(update)) == finite
