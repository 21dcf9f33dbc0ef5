"""What ``make docs`` adds to the guides: the texts beside docs/, and a page for each room.

MkDocs calls the two functions: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Texts that lie beside docs/, and their pages.
TEXTS = {
    "README.md": "project.md",
    "CONTRIBUTING.md": "contributing.md",
    "notebooks/README.md": "notebooks.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    package = config.site_name
    for text, page in TEXTS.items():
        files.append(File.generated(config, page, content=(ROOT / text).read_text()))
    for room in sorted((ROOT / "src" / package).glob("*/__init__.py")):
        name = room.parent.name
        page = f"api/{name}.md"
        files.append(File.generated(config, page, content=f"::: {package}.{name}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Have links between the texts lead to their pages."""
    beside = {its: text for text, its in TEXTS.items()}
    text = beside.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def led(found: re.Match[str]) -> str:
        target, anchor = found.groups(default="")
        path = (ROOT / text).parent.joinpath(target).resolve()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else target
        led_to = TEXTS.get(name) or ("README.md" if name == "docs" else name.removeprefix("docs/"))
        return f"]({led_to}{anchor})"

    return re.sub(r"\]\(([^)#:\s]+)(#[^)]*)?\)", led, markdown)
