"""YAML is read by libyaml where that is what PyYAML reads; errors are PyYAML's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from cosp.forms import LARGE, NO_YAML, READ_OTHERWISE, _Loader, yaml_value

ROOT = Path(__file__).parents[1]
SHIPPED = sorted([*ROOT.glob("experiments/**/*.yaml"), *ROOT.glob("devices/*.yaml"), *ROOT.glob("fleets/*.yaml")])
PIECES = [*"{}[]:,-&*!|>'\"%@`#?\t\n~0aé\x07.\ufeff", *("{a:1}", "- ", "&a 1", "<<: ", "---\n", "1e3", "2024-13-45")]


def told(text: str, load: object = None) -> object:
    """Return what a text says, or what is wrong with it."""
    try:
        return repr(yaml.load(text, _Loader) if load == "slow" else yaml_value(text))
    except NO_YAML as error:
        return type(error), str(error)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_read_by_libyaml_and_say_the_same(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGE
    assert not READ_OTHERWISE.search(text)
    assert told(text) == told(text, "slow")


def test_damaged_texts_say_the_same_or_are_refused_with_the_same_words():
    rng = np.random.default_rng(0)
    texts = [path.read_text(encoding="utf-8") for path in SHIPPED]
    kinds = set()
    for _ in range(600):
        whole = texts[rng.integers(len(texts))]
        first = int(rng.integers(len(whole)))
        text = whole[first : first + 120]
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(text) + 1))
            text = text[:at] + PIECES[rng.integers(len(PIECES))] + text[at:]
        found = told(text)
        assert found == told(text, "slow"), text
        kinds.add(type(found))
    assert kinds == {str, tuple}


@pytest.mark.parametrize("text", ["a: co\tsp", "{a?b: 1}", ">#a\n", "x: 1\n\ufeffy: 2\n"])
def test_what_libyaml_would_read_otherwise(text: str):
    assert READ_OTHERWISE.search(text)
    assert told(text) == told(text, "slow")


@pytest.mark.parametrize("text", ["[" * (LARGE - 1), "[" * 200_000, "- " * 200_000])
def test_brackets_without_end_are_an_error(text: str):
    with pytest.raises(RecursionError):
        yaml_value(text)


def test_a_key_that_is_there_twice_is_named_with_its_line():
    with pytest.raises(yaml.YAMLError, match=r"(?s)key 'b' is there twice.*line 3, column 1"):
        yaml_value("a: 1\nb: 2\nb: 3\n")
