"""The form of the pages: lines that an editor shows, paragraphs of one idea."""

from __future__ import annotations

import re

import pages
import pytest

LINE = 120
PARAGRAPH = 640
LINK = re.compile(r"\]\([^)]+\)|https?://\S+|(?:href|src|alt)=\"[^\"]*\"")


def paragraphs(text: str) -> list[str]:
    """Return paragraphs and items of lists, each on one line, without blocks, tables, headings."""
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", pages.prose(text))
    return [" ".join(part.split()) for part in parts if not part.lstrip().startswith(("|", "#"))]


@pytest.mark.parametrize("page", pages.PAGES)
def test_no_line_is_wider_than_an_editor(page: str) -> None:
    wide = [line for line in pages.read(page).splitlines() if len(line) > LINE and not line.startswith("|")]
    assert [line for line in wide if len(LINK.sub("", line)) > LINE] == []


@pytest.mark.parametrize("page", pages.PAGES)
def test_no_paragraph_is_a_wall(page: str) -> None:
    assert [text for text in paragraphs(pages.read(page)) if len(text) > PARAGRAPH] == []


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_block_says_its_language(page: str) -> None:
    assert "```" not in pages.prose(pages.read(page))
