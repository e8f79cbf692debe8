"""The server learns from what came up, and takes back what it should not have learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cosp.adaptation.batches import Batch, joined
from cosp.adaptation.guards import Watch, balanced_rows, collapsed
from cosp.adaptation.parts import names_of
from cosp.adaptation.teach import AdaptSettings, School, cut
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import layout_of
from tests.small_models import SMALL, model_with, random_samples, random_state

LAYOUT = layout_of(SMALL)
STATE = random_state(SMALL)
WHOLE = SMALL.full_plan()
NARROW = prefix_plan(SMALL.sizes.scaled(0.5), 2)


def batch(count: int = 12, seed: int = 1) -> Batch:
    labels = torch.arange(count) % SMALL.classes
    return Batch(random_samples(SMALL, count, seed), labels)


def school(**settings: object) -> School:
    return School(SMALL, STATE, AdaptSettings(**{"learning_rate": 0.05, "collapsed": None, **settings}))


def learned(made: School, plans=(WHOLE,), steps: int = 1, what: Batch | None = None) -> list:
    rng = np.random.default_rng(0)
    return [made.learn(batch() if what is None else what, list(plans), rng) for _ in range(steps)]


def moved(made: School) -> set[str]:
    return {name for name, tensor in made.state.items() if not torch.equal(tensor, STATE[name])}


@pytest.mark.parametrize("parts", [("norms",), ("biases",), ("heads",), ("norms", "heads"), ("all",)])
@pytest.mark.parametrize("rule", ["entropy", "distil", "labels"])
def test_what_is_named_learns_and_nothing_else(rule, parts):
    made = school(rule=rule, parts=parts)
    learned(made)
    assert moved(made)
    assert moved(made) <= set(names_of(LAYOUT, parts))


def test_parts_are_told_by_the_layout():
    norms, biases, heads = (set(names_of(LAYOUT, (part,))) for part in ("norms", "biases", "heads"))
    assert {"blocks.0.norm1.weight", "blocks.0.norm1.bias", "exits.2.norm.bias"} <= norms
    assert {"blocks.0.attention.qkv_bias", "inputs.bias", "exits.0.head.bias"} <= biases
    assert {"exits.0.head.weight", "exits.0.head.bias"} <= heads
    assert not norms & biases
    assert not norms & heads
    assert set(names_of(LAYOUT, ("all",))) == set(LAYOUT)
    with pytest.raises(ValueError, match="has no adapters"):
        names_of(LAYOUT, ("adapters",))


def test_labels_are_learned():
    made = school(rule="labels", parts=("all",), learning_rate=0.05)
    lessons = learned(made, steps=40)
    assert lessons[-1].loss < 0.5 * lessons[0].loss
    assert made.accuracy(batch()) > 0.9


def test_entropy_falls_by_minimising_it():
    made = school(rule="entropy", learning_rate=0.02)
    lessons = learned(made, steps=15)
    assert lessons[-1].loss < lessons[0].loss


def test_answers_that_are_to_be_even_together_do_not_run_into_one_class():
    plain, even = (school(rule="entropy", parts=("all",), balance_weight=weight) for weight in (0.0, 2.0))
    ends = [learned(made, steps=40)[-1].entropy for made in (plain, even)]
    assert ends[0] < 0.7
    assert ends[1] > 0.95


def test_what_is_to_be_even_is_the_mean_of_a_step_s_samples_replayed_ones_too():
    rows = [torch.arange(0, 6), torch.arange(6, 12)]
    apart, together = (school(rule="entropy", balance_weight=1.0, replay_from=1, replayed=1) for _ in range(2))
    learned(apart, what=batch().rows(rows[0]))
    apart.restore(together.snapshot())
    lesson = learned(apart, what=batch().rows(rows[1]))[0]
    assert lesson.loss == pytest.approx(learned(together, what=batch())[0].loss, abs=1e-5)


def test_the_pupil_comes_nearer_to_its_teacher():
    made = school(rule="distil", teacher="frozen", parts=("all",), entropy_weight=0.0, feature_weight=1.0)
    lessons = learned(made, plans=[NARROW], steps=30)
    assert lessons[-1].loss < 0.7 * lessons[0].loss


def test_a_frozen_teacher_stays_and_the_whole_model_has_nothing_to_learn_of_itself():
    made = school(rule="distil", teacher="frozen", entropy_weight=0.0, label_weight=0.0)
    learned(made, plans=[WHOLE])
    before = {name: STATE[name] for name in made.snapshot()}
    assert all(torch.allclose(made.snapshot()[name], before[name], atol=0.05) for name in before)


def test_one_step_for_two_plans_moves_weights_that_both_share():
    made = school(rule="labels", parts=("all",))
    learned(made, plans=[NARROW])
    beyond = made.state["blocks.2.ffn.up.weight"]
    assert torch.equal(beyond, STATE["blocks.2.ffn.up.weight"])  # a block that the narrow one does not have
    kept = torch.zeros(SMALL.hidden, dtype=torch.bool)
    kept[list(NARROW.blocks[0].hidden)] = True
    changed = (made.state["blocks.0.ffn.up.weight"] != STATE["blocks.0.ffn.up.weight"]).any(1)
    assert torch.equal(changed, kept)


def test_some_plans_a_step_are_drawn():
    made = school(rule="labels", parts=("all",), plans_at_once=1)
    found = {len(made._taught([NARROW, WHOLE, NARROW], np.random.default_rng(seed))) for seed in range(5)}
    drawn = {made._taught([NARROW, WHOLE], np.random.default_rng(seed))[0] for seed in range(9)}
    assert (found, drawn) == ({1}, {NARROW, WHOLE})


def test_a_submodel_computes_what_its_cut_computes():
    made = school()
    model = model_with(SMALL, STATE, NARROW)
    samples = batch()
    with torch.no_grad():
        expected = torch.stack([z.softmax(-1) for z in model(samples.x)]).mean(0).argmax(-1)
    share = float((expected == samples.y).float().mean())
    assert made.accuracy(samples, NARROW) == pytest.approx(share)
    assert set(cut(STATE, LAYOUT, NARROW)) == set(model.state_dict())


def test_tokens_teach_what_lies_behind_them():
    model = model_with(SMALL, STATE)
    with torch.no_grad():
        x = model.stream(batch().x, 1)[:, :3]
    made = school(rule="distil", parts=("all",))
    learned(made, what=Batch(x, after=1, sizes=torch.ones(x.shape[:2])))
    assert not any(name.startswith(("blocks.0.", "inputs", "positions", "exits.0.")) for name in moved(made))
    assert any(name.startswith("blocks.1.") for name in moved(made))


def test_what_goes_back_is_the_snapshot():
    made = school(rule="entropy")
    learned(made)
    good = made.snapshot()
    learned(made, steps=3)
    made.restore(good)
    assert all(torch.equal(made.state[name], tensor) for name, tensor in good.items())


def test_a_step_into_one_class_is_undone():
    made = school(rule="entropy", parts=("heads",), collapsed=0.999, learning_rate=50.0)
    lesson = learned(made)[0]
    assert lesson.undone == "collapsed"
    assert not moved(made)


def test_a_step_that_forgets_the_clean_set_is_undone():
    settings = AdaptSettings(rule="labels", parts=("all",), learning_rate=3.0, clean_drop=0.05, collapsed=None)
    made = School(SMALL, STATE, settings, clean=None)
    with torch.no_grad():
        clean = batch(seed=5)
        truth = torch.stack([z.softmax(-1) for z in model_with(SMALL, STATE)(clean.x)]).mean(0).argmax(-1)
    made = School(SMALL, STATE, settings, clean=Batch(clean.x, truth))
    assert made.learn(batch(), [WHOLE], np.random.default_rng(0)).undone in ("forgets", "not finite")
    assert not moved(made)


def test_replay_begins_with_enough_and_is_bounded():
    made = school(rule="labels", replay=20, replay_from=20, replayed=1)
    rng = np.random.default_rng(0)
    for seed in range(5):
        made.learn(batch(8, seed), [WHOLE], rng)
    assert sum(len(each.x) for each in made._kept) <= 20


def test_batches_of_one_form_are_joined():
    found = joined([batch(2), batch(3), Batch(torch.zeros(4, 2, 8), after=1)])
    assert [len(each.x) for each in found] == [5, 4]
    assert found[0].y is not None
    assert found[1].y is None


def test_nothing_is_learned_of_nothing():
    assert school(rule="none").learn(batch(), [WHOLE], np.random.default_rng(0)) is None
    assert school(rule="labels").learn(Batch(batch().x), [WHOLE], np.random.default_rng(0)) is None


def test_a_class_takes_no_more_than_its_cap():
    pseudo = np.array([0, 0, 0, 0, 1, 2])
    assert balanced_rows(pseudo, 3, 1.0).tolist() == [0, 1, 4, 5]
    assert balanced_rows(pseudo, 3, 3.0).tolist() == [0, 1, 2, 3, 4, 5]


def test_predictions_of_one_class_have_collapsed():
    assert collapsed(np.array([[0.99, 0.01], [0.98, 0.02]]), 0.5)
    assert not collapsed(np.array([[0.99, 0.01], [0.02, 0.98]]), 0.5)


def test_a_model_is_taken_back_when_it_was_worse_for_some_windows_in_a_row():
    watch = Watch(windows=2, margin=0.1)
    told = [watch.worse(0.3, after) for after in (0.5, 0.35, 0.5, 0.5, 0.5)]
    assert told == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "pray"}, "rule must be one of"),
        ({"teacher": "none"}, "teacher must be one of"),
        ({"learning_rate": 0}, "learning_rate must be > 0"),
        ({"plans_at_once": 0}, "plans_at_once must be >= 1"),
        ({"batch": 0}, "batch must be >= 1"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"class_cap": 0.5}, "class_cap must be >= 1"),
        ({"collapsed": 1.5}, "collapsed must lie between"),
        ({"label_weight": -1}, "label_weight must be >= 0"),
    ],
)
def test_settings_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        AdaptSettings(**wrong)
