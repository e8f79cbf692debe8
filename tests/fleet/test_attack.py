from __future__ import annotations

from typing import Any

import pytest

from cosp.errors import ConfigError
from cosp.fleet import load_fleet
from cosp.fleet.attack import Attack
from cosp.fleet.attackers import backdoor_of, by_data, check_attacks, check_nobody_attacks, lies
from cosp.fleet.fleet import Fleet


def fleet(*entries: dict[str, Any], **more: Any) -> Fleet:
    return load_fleet({"boards": [{"device": "jetson-nano", "link": "wifi", **entry} for entry in entries], **more})


def attack_of(entry: dict[str, Any]) -> Attack | None:
    return fleet(entry).boards[0].attack


def check(made: Fleet, **changes: Any) -> None:
    check_attacks(
        made.boards, **{"data": "digits", "kind": "images", "classes": 10, "streamed": False, "masks": False} | changes
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, None),
        ({"attack": "sign_flip"}, Attack(kind="sign_flip")),
        ({"attack": "scale"}, Attack(kind="scale", factor=1000.0)),
        ({"attack": {"kind": "scale", "factor": 10.0}, "at_s": 60.0}, Attack(kind="scale", factor=10.0, at_s=60.0)),
        ({"attack": {"kind": "backdoor", "target": 3, "share": 1.0}}, Attack(kind="backdoor", target=3, share=1.0)),
        ({"attack": "lie_samples"}, Attack(kind="lie_samples", factor=1000.0)),
    ],
)
def test_a_kind_alone_stands_for_its_mapping(entry: dict[str, Any], expected: Attack | None):
    assert attack_of(entry) == expected


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"attack": "shout"}, "fleet: boards.0.attack: must be 'sign_flip', 'scale', .* got 'shout'"),
        (
            {"attack": {"kind": "scale", "faktor": 2.0}},
            "boards.0.attack: unknown key 'faktor'; .* did you mean 'factor'?",
        ),
        ({"attack": {"kind": "scale", "factor": 0.0}}, "boards.0.attack.factor: "),
        (
            {"attack": {"kind": "label_flip", "factor": 2.0}},
            "attack: factor goes with kind sign_flip, scale, noise, lie_sa",
        ),
        ({"attack": {"kind": "scale", "target": 1}}, "attack: target and share go with kind backdoor, got kind scale"),
        ({"attack": {"kind": "backdoor", "share": 0.0}}, "boards.0.attack.share: "),
        ({"at_s": 5.0}, "boards.0: at_s says when an attack begins: add attack, or remove at_s"),
    ],
)
def test_what_is_no_attack_is_one_line(entry: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        fleet(entry)
    assert "\n" not in str(caught.value)


def test_drawn_boards_attack_too():
    mix = [{"weight": 1.0, "device": "jetson-nano", "link": "wifi", "attack": "label_flip"}]
    drawn = load_fleet({"generate": {"count": 3, "mix": mix}})
    assert by_data(drawn.boards) == [0, 1, 2]


def test_who_attacks_how_is_known_by_kind():
    made = fleet(
        {"count": 2}, {"count": 2, "attack": "label_flip"}, {"attack": {"kind": "backdoor", "target": 4}},
        {"attack": "lie_samples"},
    )  # fmt: skip
    assert by_data(made.boards) == [2, 3, 4]
    assert [client for client, board in enumerate(made.boards) if lies(board)] == [5]
    assert backdoor_of(made.boards) == 4
    assert (by_data(fleet({}).boards), backdoor_of(fleet({}).boards)) == ([], None)


def test_a_board_attacks_whatever_it_changes_to():
    changing = fleet({"attack": "scale", "changes": [{"at_s": 1.0, "keep": 0.5}]}).boards[0]
    assert changing.at(2.0).attack == changing.attack


@pytest.mark.parametrize(
    ("entries", "changes", "said"),
    [
        (["label_flip"], {"streamed": True}, "label_flip needs the data in memory: set data.stream: false"),
        (["noise"], {"masks": True}, "noise changes weight changes, and boards send masks"),
        (["backdoor"], {"kind": "texts"}, "backdoor puts a trigger on images, digits has texts"),
        ([{"kind": "backdoor", "target": 10}], {}, "target must be below 10, the number of classes, got 10"),
        ([{"kind": "backdoor", "target": 1}, "backdoor"], {}, "target must be one for all boards, got 0, 1"),
    ],
)
def test_an_attack_that_a_run_has_no_room_for_is_one_line(entries: list[Any], changes: dict[str, Any], said: str):
    made = fleet(*({"attack": entry} for entry in entries))
    with pytest.raises(ConfigError, match=f"^fleet: attack: .*{said}"):
        check(made, **changes)


def test_what_a_run_has_room_for_is():
    check(fleet({"attack": "label_flip"}), kind="texts", masks=True)
    check(fleet({"attack": "scale"}), streamed=True)
    check(fleet({}), masks=True, streamed=True)


def test_real_boards_are_asked_no_attack():
    check_nobody_attacks(fleet({}).boards)
    with pytest.raises(ConfigError, match="fleet: board 2: attack scale is of simulated boards alone: remove it"):
        check_nobody_attacks(fleet({"count": 2}, {"attack": "scale"}).boards)
