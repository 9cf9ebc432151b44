"""What the site holds beside the pages of `docs/`: the commands, the decisions, and files of the repository.

A page of `docs/` may link to any file of the repository by its relative path, as GitHub does. The site has
a copy of that file below `project/`, and the link leads there. So the site needs no network.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
COPIES = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CITATION.cff", "LICENSE"),
    *("pyproject.toml", "Makefile", ".ci/run", "pipelines/*", "deploy/**/*"),
    *("research/**/*", "benchmarks/*.py", ".github/workflows/*"),
)
REMOTE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?https?:|<link\b[^>]*stylesheet[^>]*https?:"
)
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the copies."""
    files.append(File.generated(config, "reference/commands.md", content=describe_commands()))
    files.append(File.generated(config, "decisions/index.md", content=list_decisions()))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page, pictures = render_notebook(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    in_nav = str(config.nav)
    for path in sorted({path for pattern in COPIES for path in ROOT.glob(pattern)}):
        if path.is_file() and "__pycache__" not in path.parts:
            uri = to_site(path.relative_to(ROOT).as_posix())
            shown = InclusionLevel.INCLUDED if uri in in_nav else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=shown))
    for file in files:
        if file.src_uri.startswith("decisions/"):
            file.inclusion = InclusionLevel.NOT_IN_NAV
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the repository to their copies."""
    here = posixpath.dirname(to_repository(page.file.src_uri))

    def redirect(match: re.Match[str]) -> str:
        opening, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        uri = to_site(posixpath.normpath(posixpath.join(here, target)))
        if uri == "project/README.md":
            uri = "index.md"
        return (
            f"{opening}{posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor or ''})"
        )

    return LINK.sub(redirect, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that loads something from another host."""
    if found := REMOTE.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[0]}...; the site must work without a network")
    return output


def to_site(path: str) -> str:
    """The place of a file of the repository on the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"project/{path}"


def to_repository(uri: str) -> str:
    """The file of the repository behind a place on the site."""
    return uri.removeprefix("project/") if uri.startswith("project/") else f"docs/{uri}"


def describe_commands() -> str:
    """The reference of the commands, from the application itself."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from cloudgan.cli.app import app

    command = get_command(app)
    text = get_docs_for_click(
        obj=command, ctx=command.context_class(command, info_name="cloudgan"), name="cloudgan"
    )
    short = (
        "`cloudgan-batch`, `cloudgan-train` and `cloudgan-evaluate` are the commands of the same names below."
    )
    return f"# Commands\n\n{short}\n\n{text.partition(chr(10))[2].lstrip()}"


def render_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, with the outputs that it was saved with, and its pictures by name."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if picture := output.get("data", {}).get("image/png"):
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(picture))
                parts.append(f"![What the code above draws]({name})")
            elif text := read_text(output):
                parts.append(f"```text\n{text}\n```")
    title, *rest = parts
    note = f"This page is [a notebook]({path.name}), with what it printed and drew."
    return "\n\n".join([title, note, *rest]) + "\n", pictures


def read_text(output: dict[str, Any]) -> str:
    """What an output says in words."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain") or "").rstrip()


def list_decisions() -> str:
    """An index of the decision records by their titles."""
    rows = []
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        number, _, title = (
            path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        )
        rows.append(f"| {number} | [{title}]({path.name}) |")
    introduction = "Each record holds the context, the decision and its consequences."
    return "\n".join(["# Decisions", "", introduction, "", "| | |", "| --- | --- |", *rows, ""])
