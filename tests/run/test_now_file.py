"""``now.json`` is written seldom, and where it must not be missed."""

from __future__ import annotations

from pathlib import Path

from cosp.run.now import Now
from cosp.server.greeting import Greeter


class Nobody:
    """A grid without a node."""

    def now_s(self) -> float:
        return 0.0

    def get_node_ids(self) -> list[int]:
        return []


def test_that_all_boards_are_there_is_written_though_little_time_went_by(tmp_path: Path) -> None:
    file = tmp_path / "now.json"
    waiting, complete = (Greeter(Nobody(), boards) for boards in (1, 0))  # type: ignore[arg-type]
    with Now(tmp_path) as now:
        now.wait(waiting)
        file.unlink()
        now.wait(waiting)
        assert not file.exists()
        now.wait(complete)
        assert file.exists()
    assert not file.exists()
