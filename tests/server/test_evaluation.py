from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from cosp.server.evaluation import accuracy_of, evaluate, macro_f1


def pairs_of(confusion: np.ndarray) -> tuple[list[int], list[int]]:
    """True and predicted labels that ``confusion`` counts."""
    pairs = [(t, p) for (t, p), count in np.ndenumerate(confusion) for _ in range(count)]
    return [t for t, _ in pairs], [p for _, p in pairs]


@given(arrays(np.int64, st.tuples(st.integers(2, 4)).map(lambda n: n * 2), elements=st.integers(0, 5)))
def test_accuracy_and_macro_f1_are_scikit_learns(confusion):
    confusion[0, 0] += 1  # at least one sample
    true, predicted = pairs_of(confusion)
    labels = list(range(len(confusion)))
    assert accuracy_of(confusion) == pytest.approx(metrics.accuracy_score(true, predicted))
    expected = metrics.f1_score(true, predicted, labels=labels, average="macro", zero_division=0.0)
    assert macro_f1(confusion) == pytest.approx(expected)


def confusion(hits: int, misses: int) -> np.ndarray:
    return np.array([[hits, misses], [0, 0]])


def evaluated(test: list[tuple[int, int]], validation: list[tuple[int, int]]):
    """Evaluate a model whose exits, and then their mean, have these hits and misses."""
    splits = {
        "test": (np.stack([confusion(*c) for c in test]), np.arange(len(test), dtype=float)),
        "validation": (np.stack([confusion(*c) for c in validation]), np.zeros(len(validation))),
    }
    return evaluate({}, lambda model, split: splits[split])


def test_an_evaluation_by_hand():
    found = evaluated(test=[(8, 2), (6, 4), (9, 1)], validation=[(5, 5), (7, 3), (10, 0)])
    assert found.accuracy == [0.8, 0.6]
    assert found.loss == [0.0, 0.1]
    assert found.macro_f1 == pytest.approx([16 / 18 / 2, 12 / 16 / 2])
    assert found.mean_accuracy == 0.9
    assert found.validation_accuracy == [0.5, 0.7]
    assert (found.chosen_exit, found.chosen_accuracy) == (1, 0.6)  # validation chooses, the mean is no exit


def test_ties_go_to_the_deeper_exit():
    found = evaluated(test=[(8, 2), (7, 3), (6, 4), (9, 1)], validation=[(7, 3), (7, 3), (6, 4), (9, 1)])
    assert (found.chosen_exit, found.chosen_accuracy) == (1, 0.7)


def test_an_evaluation_is_a_row_of_plain_values():
    row = evaluated(test=[(8, 2), (9, 1)], validation=[(8, 2), (9, 1)]).as_row()
    keys = "accuracy chosen_accuracy chosen_exit loss macro_f1 mean_accuracy validation_accuracy"
    assert sorted(row) == keys.split()
    assert all(type(value) in (int, float) for value in [*row["loss"], *row["accuracy"], row["chosen_exit"]])
