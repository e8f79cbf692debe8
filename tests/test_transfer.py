from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosp.transfer import TransferSettings, exit_loss, log_class_shares, log_present, mean_prediction

LABELS = torch.tensor([0, 2])


def logits() -> list[Tensor]:
    """Two exits' logits for two images of three classes."""
    shallow = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], requires_grad=True)
    deepest = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]], requires_grad=True)
    return [shallow, deepest]


def loss_of(exits: list[Tensor], version: int = 0, **settings: object) -> float:
    return float(exit_loss(exits, LABELS, TransferSettings(**settings), version)[0].detach())


def cross_entropy(rows: list[list[float]]) -> float:
    picked = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(rows, LABELS.tolist(), strict=True)]
    return sum(picked) / 2


def softmax(row: list[float], temperature: float) -> list[float]:
    total = sum(math.exp(value / temperature) for value in row)
    return [math.exp(value / temperature) / total for value in row]


def divergence(teacher: list[list[float]], pupil: list[list[float]]) -> float:
    """KL(teacher || pupil), summed over classes and averaged over images."""
    rows = zip(teacher, pupil, strict=True)
    return sum(p * math.log(p / q) for t, s in rows for p, q in zip(t, s, strict=True)) / len(teacher)


def soft(exit_logits: Tensor, temperature: float) -> list[list[float]]:
    return [softmax(row, temperature) for row in exit_logits.tolist()]


def plain(exits: list[Tensor]) -> float:
    return sum(cross_entropy(z.tolist()) for z in exits)


def test_without_a_teacher_each_exit_has_its_cross_entropy():
    assert loss_of(logits(), teacher="none") == pytest.approx(plain(logits()), rel=1e-5)


def test_the_deepest_exit_teaches_the_shallower_ones():
    shallow, deepest = (soft(z, 3.0) for z in logits())
    expected = plain(logits()) + 0.5 * 9 * divergence(deepest, shallow)
    assert loss_of(logits(), teacher="deepest") == pytest.approx(expected, rel=1e-5)


def test_the_mean_of_all_exits_teaches_each_of_them():
    shallow, deepest = (soft(z, 2.0) for z in logits())
    mean = [[(p + q) / 2 for p, q in zip(a, b, strict=True)] for a, b in zip(shallow, deepest, strict=True)]
    expected = plain(logits()) + 0.25 * 4 * (divergence(mean, shallow) + divergence(mean, deepest))
    assert loss_of(logits(), teacher="mean", weight=0.25, temperature=2.0) == pytest.approx(expected, rel=1e-5)


def test_the_mean_teacher_treats_all_exits_alike():
    a, b = logits()
    assert loss_of([a, b], teacher="mean") == pytest.approx(loss_of([b, a], teacher="mean"), rel=1e-6)
    assert loss_of([a, b], teacher="deepest") != pytest.approx(loss_of([b, a], teacher="deepest"), rel=1e-3)


def test_the_element_mean_is_weaker_by_the_number_of_classes():
    base = plain(logits())
    strong = loss_of(logits(), teacher="deepest") - base
    weak = loss_of(logits(), teacher="deepest", reduction="mean") - base
    assert weak == pytest.approx(strong / 3, rel=1e-4)


def teacher_gradient(detach: bool) -> Tensor:
    """Gradient of the transfer term alone to the deepest exit, its teacher."""
    total, without = logits(), logits()
    settings = TransferSettings(teacher="deepest", detach=detach)
    exit_loss(total, LABELS, settings, 0)[0].backward()
    exit_loss(without, LABELS, TransferSettings(teacher="none"), 0)[0].backward()
    return total[1].grad - without[1].grad


def test_a_detached_teacher_learns_nothing_from_its_pupils():
    assert not teacher_gradient(detach=True).any()
    assert teacher_gradient(detach=False).abs().max() > 0.01


def test_the_mean_teacher_is_detached():
    exits = logits()
    exit_loss(exits, LABELS, TransferSettings(teacher="mean", weight=1.0, temperature=1.0), 0)[0].backward()
    mean = mean_prediction([z.detach() for z in exits])
    for z in exits:  # of CE and of KL to a fixed teacher: softmax - target, each
        p = F.softmax(z.detach(), dim=-1)
        expected = (p - F.one_hot(LABELS, 3) + p - mean) / 2
        torch.testing.assert_close(z.grad, expected, rtol=1e-5, atol=1e-6)


def test_transfer_starts_at_the_warm_up_version():
    settings = {"teacher": "deepest", "warmup_versions": 10}
    assert loss_of(logits(), version=9, **settings) == pytest.approx(plain(logits()), rel=1e-6)
    assert loss_of(logits(), version=10, **settings) == pytest.approx(loss_of(logits(), teacher="deepest"), rel=1e-6)


def test_mutual_exits_have_the_gradient_of_the_mean_divergence_from_each_other():
    third = torch.tensor([[0.0, 2.0, 1.0], [1.0, 1.0, 0.0]], requires_grad=True)
    exits, again = [*logits(), third], [z.detach().clone().requires_grad_() for z in [*logits(), third]]
    exit_loss(exits, LABELS, TransferSettings(teacher="mutual", weight=1.0, temperature=1.0), 0)[0].backward()
    literal = torch.stack([F.cross_entropy(z, LABELS) for z in again]).sum()
    for i, pupil in enumerate(again):
        for j, teacher in enumerate(again):
            if i != j:
                target = F.softmax(teacher.detach(), dim=-1)
                literal = literal + F.kl_div(F.log_softmax(pupil, dim=-1), target, reduction="batchmean") / 2
    literal.backward()
    for found, expected in zip(exits, again, strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_depth_weighted_losses_count_the_deepest_exit_most():
    shallow, deepest = (cross_entropy(z.tolist()) for z in logits())
    found = loss_of(logits(), teacher="none", depth_weighted=True)
    assert found == pytest.approx(shallow / 3 + 2 * deepest / 3, rel=1e-5)
    learned = loss_of(logits(), teacher="deepest", depth_weighted=True) - found
    pupil, teacher = (soft(z, 3.0) for z in logits())
    assert learned == pytest.approx(0.5 * 9 * divergence(teacher, pupil) / 3, rel=1e-4)


def test_a_masked_loss_leaves_out_classes_that_a_client_has_not():
    prior = log_present([3, 0, 1])
    z = torch.zeros(2, 3, requires_grad=True)
    loss, _ = exit_loss([z], LABELS, TransferSettings(), 0, prior)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert z.grad[:, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("teacher", ["mean", "deepest", "mutual", "none"])
def test_a_single_exit_has_plain_cross_entropy(teacher):
    deepest = logits()[-1:]
    assert loss_of(deepest, teacher=teacher) == pytest.approx(plain(deepest), rel=1e-6)


def test_class_shares_count_one_image_more_of_each_class():
    assert log_class_shares([3, 0, 1]).exp().tolist() == pytest.approx([4 / 7, 1 / 7, 2 / 7])


def test_a_balanced_loss_judges_logits_by_what_the_client_would_see_anyway():
    """Logits + log shares meet the labels; the exits teach each other without them."""
    shares = torch.tensor([0.7, 0.2, 0.1])
    balanced, _ = exit_loss(logits(), LABELS, TransferSettings(), 0, shares.log())
    shifted = plain([z.detach() + shares.log() for z in logits()])
    assert float(balanced.detach()) - shifted == pytest.approx(loss_of(logits()) - plain(logits()), rel=1e-4)


def test_a_client_that_knows_only_its_class_shares_has_nothing_to_learn_from_a_balanced_loss():
    """At zero logits the gradient over a client's data is zero, whatever its mix: it pulls no class up or down."""
    counts = [6, 3, 1]
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    shares = (torch.tensor(counts) / sum(counts)).log()
    for prior, moves in ((shares, False), (None, True)):
        z = torch.zeros(10, 3, requires_grad=True)
        exit_loss([z], labels, TransferSettings(), 0, prior)[0].backward()
        assert bool(z.grad.sum(0).abs().max() > 1e-6) is moves


def test_shallow_exits_can_be_left_out():
    assert loss_of(logits(), shallow_exits=False) == pytest.approx(plain(logits()[-1:]), rel=1e-6)


def test_the_reported_loss_is_the_deepest_exits_and_detached():
    _, reported = exit_loss(logits(), LABELS, TransferSettings(), 0)
    assert float(reported) == pytest.approx(plain(logits()[-1:]), rel=1e-6)
    assert not reported.requires_grad


def test_the_mean_prediction_averages_probabilities_not_logits():
    exits = [torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 0.0]])]
    assert mean_prediction(exits).tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"teacher": "me"}, "teacher"), ({"reduction": "sum"}, "reduction"), ({"temperature": 0.0}, "temperature")],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message} must be"):
        TransferSettings(**settings)


def test_half_a_teacher_is_what_was_received():
    """KL to a fixed target only, by hand: one exit, cross-entropy taken away."""
    z = torch.tensor([[0.0, 2.0]])
    remembered = torch.tensor([[0.9, 0.1]])
    settings = TransferSettings(received=0.5, weight=1.0, temperature=1.0)
    now = torch.softmax(z, dim=-1)
    target = (now + remembered) / 2
    divergence = float((target * (target.log() - now.log())).sum())
    with_memory, deepest = exit_loss([z], torch.tensor([1]), settings, 0, remembered=remembered)
    assert float(with_memory - deepest) == pytest.approx(divergence, rel=1e-5)


def test_a_single_exit_that_remembers_nothing_has_no_teacher():
    z = torch.tensor([[0.0, 2.0]])
    loss, deepest = exit_loss([z], torch.tensor([1]), TransferSettings(received=0.5), 0)
    assert float(loss) == float(deepest)


def test_a_submodel_that_moved_nowhere_learns_nothing_from_memory():
    z = torch.tensor([[0.3, -0.2]], requires_grad=True)
    remembered = torch.softmax(z.detach() / 3.0, dim=-1)
    with_memory, _ = exit_loss([z], torch.tensor([0]), TransferSettings(received=1.0), 0, remembered=remembered)
    (got,) = torch.autograd.grad(with_memory, z)
    (plain,) = torch.autograd.grad(exit_loss([z], torch.tensor([0]), TransferSettings(teacher="none"), 0)[0], z)
    assert torch.allclose(got, plain, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"teacher": "none"}, {"shallow_exits": False}, {"warmup_versions": 5}, {"received": 0.0}]
)
def test_nothing_is_remembered_where_nothing_is_taught(settings):
    assert not TransferSettings(**{"received": 0.5, **settings}).remembers(4)


def test_a_share_of_memory_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"received must lie in \[0, 1\], got 1.5"):
        TransferSettings(received=1.5)
