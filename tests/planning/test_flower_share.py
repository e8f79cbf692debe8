from __future__ import annotations

import pytest

from cosp.planning.flower_share import FLOWER_S, flower_line


def test_the_share_is_of_the_task_with_flower_s_part() -> None:
    assert "50% of each" in flower_line([{"task_s": FLOWER_S}])
    said = flower_line([{"task_s": 9 * FLOWER_S}, {"task_s": FLOWER_S / 9}, {"task_s": FLOWER_S}])
    assert "10% of the longest task, 90% of the shortest" in said


@pytest.mark.parametrize(("tasks_s", "said"), [([100 * FLOWER_S], False), ([100 * FLOWER_S, 0.1], True)])
def test_longer_tasks_are_advised_where_flower_rules(tasks_s: list[float], said: bool) -> None:
    assert ("training.epochs" in flower_line([{"task_s": task_s} for task_s in tasks_s])) is said
