from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, model_with, random_samples, random_state, same_units
from torch import Tensor

from cosp.models.flat import FlatModel
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.trainer.ordered import inside, ordered_passes, relative

OWN = same_units(2, heads=(0, 1), attention_rows=(0, 2, 3, 7), hidden=(0, 1, 4), ffn_rows=(1, 5))
INNER = same_units(1, heads=(1,), attention_rows=(2, 7), hidden=(0, 4), ffn_rows=(5,))


def flat_model(plan: SubmodelPlan) -> FlatModel:
    layout = layout_of(SMALL)
    model = FlatModel(SMALL, plan, torch.device("cpu"))
    model.load(flatten(extract(random_state(SMALL), layout, plan), spans_of(layout, plan.counts)))
    return model


def loss_of(logits: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    loss = F.cross_entropy(logits[-1], labels)
    return loss, loss.detach()


def steps(count: int, *, distillation: float, narrower: int = 2) -> list[int]:
    """How many passes each of ``count`` steps makes."""
    x, y = random_samples(SMALL), torch.tensor([0, 2])
    whole, small = flat_model(OWN).module, model_with(SMALL, random_state(SMALL), INNER)
    rng = np.random.default_rng(0)
    passes = ordered_passes(whole, [small] * narrower, loss_of, distillation=distillation, rng=rng)
    return [len(list(passes(x, y))) for _ in range(count)]


def test_a_submodel_inside_computes_what_the_extracted_one_does():
    x = random_samples(SMALL)
    found = inside(flat_model(OWN), SMALL, OWN, INNER)(x)
    expected = model_with(SMALL, random_state(SMALL), INNER)(x)
    assert len(found) == len(expected) == 1
    torch.testing.assert_close(found[0], expected[0])


def test_its_gradient_reaches_its_own_entries_of_the_larger_vector_and_no_others():
    model, x, y = flat_model(OWN), random_samples(SMALL), torch.tensor([0, 2])
    alone = model_with(SMALL, random_state(SMALL), INNER)
    F.cross_entropy(inside(model, SMALL, OWN, INNER)(x)[-1], y).backward()
    F.cross_entropy(alone(x)[-1], y).backward()
    gradients = {name: parameter.grad for name, parameter in model.module.named_parameters()}
    layout, within = layout_of(SMALL), relative(OWN, INNER)
    for name, parameter in alone.named_parameters():
        whole = gradients[name]
        places = [range(size) for size in whole.shape]
        for d, axis in enumerate(layout[name].axes):
            if axis is not None:
                units = within.blocks[layout[name].block].of(axis.group)
                places[d] = [unit * axis.entries + i for unit in units for i in range(axis.entries)]
        cut = whole[np.ix_(*places)] if places else whole
        torch.testing.assert_close(cut, parameter.grad)
        assert whole.abs().sum() == pytest.approx(float(parameter.grad.abs().sum()), rel=1e-5)


def test_a_submodel_that_is_not_inside_is_refused():
    with pytest.raises(ValueError, match="holds unit 6"):
        relative(OWN, same_units(1, heads=(0,), attention_rows=(6,), hidden=(0,), ffn_rows=(1,)))
    with pytest.raises(ValueError, match="3 blocks, the client's own 2"):
        relative(OWN, same_units(3, heads=(0,), attention_rows=(0,), hidden=(0,), ffn_rows=(1,)))


def test_with_distillation_the_own_submodel_is_trained_at_every_step_and_another_when_drawn():
    made = steps(300, distillation=0.5)
    assert set(made) == {1, 2}
    assert made.count(2) / 300 == pytest.approx(2 / 3, abs=0.1)


def test_without_distillation_each_step_trains_one():
    assert set(steps(50, distillation=0.0)) == {1}


def test_a_client_without_smaller_rates_trains_plainly():
    assert set(steps(50, distillation=0.5, narrower=0)) == {1}


def test_the_smaller_submodel_learns_from_labels_and_from_the_larger_one():
    x, y = random_samples(SMALL), torch.tensor([0, 2])
    whole, small = flat_model(OWN).module, model_with(SMALL, random_state(SMALL, 1), INNER)
    passes = ordered_passes(whole, [small], loss_of, distillation=0.25, rng=np.random.default_rng(1))
    found = next(losses for losses in (list(passes(x, y)) for _ in range(20)) if len(losses) == 2)
    teacher, pupil = F.softmax(whole(x)[0], dim=-1), F.log_softmax(small(x)[0], dim=-1)
    learned = F.kl_div(pupil, teacher, reduction="batchmean")
    expected = 0.75 * F.cross_entropy(small(x)[-1], y) + 0.25 * learned
    torch.testing.assert_close(found[1][0], expected)
