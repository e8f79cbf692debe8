from __future__ import annotations

from cosp.stream.trial import Trial, Verdict


def trial(*watched: int, before: dict[int, float] | None = None, windows: int = 2) -> Trial:
    return Trial(7, watched, before or dict.fromkeys(range(4), 0.2), windows=windows, margin=0.05)


def said(trial: Trial, *reports: tuple[int, float], version: int = 7) -> list[Verdict | None]:
    return [trial.report(client, version, uncertainty) for client, uncertainty in reports]


def test_a_set_with_which_boards_are_less_sure_in_every_window_is_worse() -> None:
    assert said(trial(0), (0, 0.3), (0, 0.4)) == [None, "worse"]


def test_one_window_alone_does_not_tell() -> None:
    assert said(trial(0), (0, 0.3), (0, 0.2)) == [None, "good"]
    assert said(trial(0), (0, 0.24), (0, 0.24)) == [None, "good"]  # within the margin


def test_half_of_the_boards_decide_by_their_mean() -> None:
    assert said(trial(0, 1, 2, 3), (0, 0.9), (1, 0.2), (0, 0.9), (1, 0.2)) == [None, None, None, "worse"]


def test_what_happens_to_the_others_is_no_fault_of_the_set() -> None:
    found = trial(0)
    said(found, (1, 0.5), (2, 0.5))
    assert said(found, (0, 0.5), (0, 0.5)) == [None, "good"]


def test_what_was_answered_with_another_set_does_not_count() -> None:
    found = trial(0)
    assert said(found, (0, 0.9), (0, 0.9), version=6) == [None, None]
    assert said(found, (0, 0.2), (0, 0.2)) == [None, "good"]


def test_a_set_that_nobody_comes_to_try_does_not_stay_on_trial() -> None:
    found = trial(0, windows=1)
    assert said(found, *[(1, 0.2)] * 6) == [*[None] * 5, "untried"]


def test_a_board_that_had_said_nothing_is_compared_from_then_on() -> None:
    found = trial(0, before={1: 0.2})
    assert said(found, (0, 0.9), (0, 0.9), (0, 0.9)) == [None, None, "good"]
