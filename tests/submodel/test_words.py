from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import BERT, SMALL, random_state
from torch import tensor

from cosp.merge.aggregation import OpenRound, ServerStep
from cosp.models import TextShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan, words_bytes, words_from_bytes, words_to_bytes
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.submodel.words import joined, recoded, words_in

TEXTS = TextShape(vocabulary=9, length=3, classes=2, dim=4, blocks=1, heads=2, hidden=3, exits=(1,), padding=0)
TABLE = "inputs.weight"
SOME = replace(TEXTS.full_plan(), words=(0, 2, 7))

vocabularies = st.integers(1, 40).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1))
)


def test_words_are_those_that_occur_and_the_special_ones():
    assert joined(words_in([np.array([[7, 2, 2]]), np.array([[4, 7, 2]])]), (0, 2)) == (0, 2, 4, 7)


@given(vocabularies)
def test_places_say_which_words_the_texts_have(known):
    size, words = known
    held = tuple(sorted(words))
    texts = np.random.default_rng(size).choice(held, (3, 2)).astype(np.int32)
    places = recoded(texts, held)
    assert places.dtype == texts.dtype
    assert np.array_equal(np.array(held)[places], texts)


def test_a_word_that_is_not_held_is_read_as_the_unknown_one_if_there_is_one():
    texts = np.array([[7, 3, 8]])
    assert recoded(texts, (0, 2, 7), unknown=1).tolist() == [[2, 1, 1]]
    with pytest.raises(ValueError, match=r"^word 3 is none of the 3 that this board introduced itself with"):
        recoded(texts, (0, 2, 7))


@given(vocabularies)
def test_words_on_the_wire_are_a_bit_each(known):
    size, words = known
    data = words_to_bytes(tuple(sorted(words)), size)
    assert len(data) == words_bytes(size)
    assert set(words_from_bytes(data, size)) == words


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00\x00"])
def test_words_of_another_vocabulary_are_refused(data):
    with pytest.raises(ValueError, match="words: 9 take 2 bytes"):
        words_from_bytes(data, 9)


@pytest.mark.parametrize("words", [(), (2, 1), (1, 1), (-1, 2)])
def test_a_plans_words_ascend_and_are_some(words):
    with pytest.raises(ValueError, match="words: "):
        replace(TEXTS.full_plan(), words=words)


def test_a_plan_survives_its_text_with_and_without_words():
    for plan in (TEXTS.full_plan(), SOME):
        assert SubmodelPlan.from_json(plan.to_json()) == plan


def test_a_submodel_with_some_words_is_one_of_a_smaller_vocabulary():
    held = TEXTS.holding(SOME.words)
    assert (held.vocabulary, held.padding) == (3, 0)
    assert replace(held, vocabulary=9) == TEXTS
    cut = extract(random_state(TEXTS), layout_of(TEXTS), SOME)
    assert {name: tensor.shape for name, tensor in cut.items()} == {n: e.shape for n, e in layout_of(held).items()}
    assert torch.equal(cut[TABLE], random_state(TEXTS)[TABLE][[0, 2, 7]])


def test_of_berts_parameters_a_fifth_are_words_that_most_boards_never_meet():
    plan = BERT.full_plan()
    whole, own = (footprint(BERT.holding(words), plan.counts) for words in (None, tuple(range(3000))))
    saved = whole.parameters - own.parameters
    assert saved == (30_522 - 3000) * 768
    assert whole.training_bytes(8, "adamw") - own.training_bytes(8, "adamw") >= 4 * (3 + 2) * saved
    assert whole.forward_flops == own.forward_flops  # words are looked up


def test_pictures_have_no_words():
    assert SMALL.holding(None) is SMALL
    with pytest.raises(ValueError, match="there are no words"):
        SMALL.holding((0, 1))


@pytest.mark.parametrize(("words", "why"), [((0, 9), r"lie in 0\.\.8"), ((1, 2), "have the padding, 0")])
def test_words_that_a_model_cannot_do_with_are_refused(words, why):
    with pytest.raises(ValueError, match=why):
        TEXTS.holding(words)


def test_a_row_moves_by_the_mean_of_those_that_hold_its_word():
    """By hand: word 0 of both, 2 and 7 of the first alone, 5 of the second alone, the others of nobody."""
    layout = {TABLE: layout_of(TEXTS)[TABLE]}
    opened = OpenRound(layout, TEXTS.sizes)
    other = replace(SOME, words=(0, 5))
    opened.fold(SOME, {TABLE: tensor([[1.0], [2.0], [3.0]]).expand(3, 4).contiguous()}, weight=1.0)
    opened.fold(other, {TABLE: tensor([[5.0], [6.0]]).expand(2, 4).contiguous()}, weight=3.0)
    before = random_state(TEXTS)
    after, _ = ServerStep().apply(before, {}, opened.close())
    moved = (after[TABLE] - before[TABLE])[:, 0]
    assert moved.tolist() == pytest.approx([4, 0, 2, 0, 0, 6, 0, 3, 0], abs=1e-6)
    untouched = [1, 3, 4, 6, 8]
    assert torch.equal(after[TABLE][untouched], before[TABLE][untouched])


def test_whoever_holds_all_words_counts_for_each():
    layout = {TABLE: layout_of(TEXTS)[TABLE]}
    opened = OpenRound(layout, TEXTS.sizes)
    opened.fold(SOME, {TABLE: torch.full((3, 4), 3.0)}, weight=1.0)
    opened.fold(TEXTS.full_plan(), {TABLE: torch.full((9, 4), 1.0)}, weight=1.0)
    merged = opened.close()
    assert merged.delta[TABLE][:, 0].tolist() == [2, 1, 2, 1, 1, 1, 1, 2, 1]
