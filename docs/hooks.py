"""What mkdocs.yml asks for beside docs/: README as the first page, and the tables of experiments/results."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "experiments/results"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of docs/; result pages are linked from others and stand in no menu."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=readme))
    results = (path for path in sorted((ROOT / RESULTS).rglob("*")) if path.is_file())
    for path in results:
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    for file in files.documentation_pages():
        if file.src_uri.startswith("results/"):
            file.inclusion = InclusionLevel.NOT_IN_NAV
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead where the site has what the repository has elsewhere."""
    if page.file.src_uri == "index.md":
        markdown = markdown.replace("](docs/", "](").replace('src="docs/', 'src="').replace('href="docs/', 'href="')
        return re.sub(r'href="([\w/]+)\.md"', r'href="\1.html"', markdown)
    return markdown.replace(f"](../{RESULTS}/", f"]({RESULTS}/")
