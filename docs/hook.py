"""What the site needs beyond docs/: pages of files that lie elsewhere in the repository, and links to them.

The sources are written for the plain repository, where a link leads from file to file. For the site, files of PAGES and
SHOWN become pages, and links to them are led there. On the page of examples, a link that stands alone is followed by
the file itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {  # file of the repository: page of the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
LANGUAGES = {".py": "python", ".yaml": "yaml"}
SHOWN = [
    path.relative_to(ROOT).as_posix() for path in sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("examples/*.py")])
]
FROM = {page: file for file, page in PAGES.items()}
TO = {**PAGES, **{file: f"files/{file}.md" for file in SHOWN}}

LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
ALONE = re.compile(r"^\[[^\]]+\]\((?:\.\./)?(examples/\w+\.py)\)$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of files that lie outside docs/."""
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text(encoding="utf-8")))
    for file in SHOWN:
        files.append(File.generated(config, TO[file], content=f"# {file}\n\n{_fenced(file)}"))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads links that leave docs/ to where the site has their file, and shows the examples."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation"]  # a column that would hold this page alone
    if here == "examples.md":
        markdown = ALONE.sub(lambda link: f"{link[0]}\n\n{_fenced(link[1])}", markdown)
    source = PurePosixPath(FROM.get(here, f"docs/{here}"))

    def led(link: re.Match[str]) -> str:
        file = os.path.normpath(source.parent / link[2])
        target = TO.get(file, file.removeprefix("docs/"))
        if target == file and not file.startswith("docs/"):
            return link[0]  # which a strict build refuses where the page has no such file
        return f"{link[1]}{os.path.relpath(target, PurePosixPath(here).parent)}{link[3] or ''}{link[4]}"

    return LINK.sub(led, markdown)


def _fenced(file: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8").rstrip()
    return f"```{LANGUAGES[Path(file).suffix]}\n{text}\n```\n"
