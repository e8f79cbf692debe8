"""The documentation as a site: strict, whole, and nothing of it from the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pages
import pytest
import yaml

pytestmark = pytest.mark.integration
pytest.importorskip("material", reason="needs the extra 'docs'")

LOADED = re.compile(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]* rel="(?:stylesheet|icon)" href="([^"]+)"')
LINKED = re.compile(r'<a[^>]* href="([^"]+)"')


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site]  # --quiet hides faults
    return subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(pages.ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_and_every_table_is_there(site: Path) -> None:
    ours = [page.removeprefix("docs/").replace("README", "index").replace(".md", ".html") for page in pages.PAGES]
    tables = [path.relative_to(pages.ROOT) for path in (pages.ROOT / "experiments" / "results").glob("*/*.md")]
    expected = [*ours, *(str(path.with_suffix(".html")) for path in tables)]
    assert [page for page in expected if not (site / page).is_file()] == []


def test_what_a_page_loads_and_links_lies_beside_it(site: Path) -> None:
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # its links begin at the server's root
            continue
        loaded = [one.split("?")[0] for pair in LOADED.findall(page.read_text(encoding="utf-8")) for one in pair if one]
        linked = [one.split("#")[0] for one in LINKED.findall(page.read_text(encoding="utf-8"))]
        ours = [unquote(one) for one in (*loaded, *linked) if one and not re.match(r"https?:|mailto:", one)]
        assert [one for one in ours if not (page.parent / one).is_file()] == [], page


def test_the_api_page_has_signatures_and_words(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    assert 'id="cosp.merge.staleness.polynomial"' in text
    assert "What a method may know of the run" in text


def test_a_dead_link_and_a_dead_anchor_are_errors(tmp_path: Path) -> None:
    shutil.copytree(pages.ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "data.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](nowhere.md) [b](method.md#nothing-of-that-name)\n")
    changes = {
        "INHERIT": str(pages.ROOT / "mkdocs.yml"),
        "docs_dir": str(tmp_path / "docs"),
        "hooks": [str(pages.ROOT / "docs" / "hooks.py")],
        "plugins": ["search"],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    found = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "nowhere.md" in found
    assert "nothing-of-that-name" in found
