from __future__ import annotations

import numpy as np
import pytest

from cosp.data.figure import partition_figure


def test_bars_are_as_long_as_the_counts_and_stacked():
    figure = partition_figure([[3, 1], [0, 2]], ["nano", "orin"], ["cat", "dog"])
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0, 3), (0, 0), (3, 1), (0, 2)]  # cats of both boards, then dogs of both
    assert [text.get_text() for text in figure.legends[0].texts] == ["cat", "dog"]


def test_first_client_is_on_top_and_totals_stand_at_the_bars():
    axes = partition_figure([[3, 1], [0, 2]], ["nano", "orin"], ["cat", "dog"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["nano", "orin"]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["4", "2"]


def test_a_hundred_classes_need_no_legend():
    figure = partition_figure(np.ones((2, 100), int).tolist(), ["a", "b"], [str(n) for n in range(100)])
    assert not figure.legends
    figure.draw_without_rendering()


def test_counts_must_match_the_names():
    with pytest.raises(ValueError, match=r"class_counts must be 1 clients x 2 classes, got \(1, 3\)"):
        partition_figure([[1, 2, 3]], ["nano"], ["cat", "dog"])
