"""The words of the project are those of its field: no private names in code, help and documentation."""

from __future__ import annotations

import ast
import io
import re
import token
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cloudgan.cli.app import app

ROOT = Path(__file__).parents[1]

# Refused as a part of an identifier, between underscores and capitals.
IN_NAMES = {
    *("look", "looks", "sky", "skies", "foretell", "foretells", "foretold", "spread", "doubt", "doubts"),
    *("hidden", "transplanted", "likeness", "reach", "told", "believed", "judged", "judge", "planes"),
    *("notice", "notices", "letter", "letters"),
}
# Refused in docstrings, comments, help and documentation.
IN_PROSE = re.compile(
    r"\b(looks?|looked|foretells?|foretold|foretelling|likeness|transplanted|transplants?|doubts?|skies"
    r"|dead letters?|believed|judged|judges?|for free)\b",
    re.IGNORECASE,
)
# Format 1 of a generator's contract is read, and its keys are quoted where that is done.
QUOTED = {("cloudgan/model/contract.py", "foretells")}

SOURCES = sorted((ROOT / "cloudgan").rglob("*.py"))
# The changelog and the decision on the layout say what old names have become.
HISTORIC = {"CHANGELOG.md"}
PAGES = [
    path
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "research").rglob("*.md"),
        ROOT / "deploy" / "README.md",
    ]
    if path.name not in HISTORIC
]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def words_of(identifier: str) -> set[str]:
    """The parts of a name in snake case or camel case."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Comments and docstrings (of attributes too) of a module, by line."""
    for one in tokenize.generate_tokens(io.StringIO(source).readline):
        if one.type == token.COMMENT:
            yield one.start[0], one.string
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_names_in_the_code_are_plain(path):
    found = {
        (one.start[0], one.string)
        for one in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if one.type == token.NAME and words_of(one.string) & IN_NAMES
    }
    assert not {one for one in found if (name(path), one[1]) not in QUOTED}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_docstrings_and_comments_are_plain(path):
    found = [
        (line, match[0])
        for line, text in prose_of(path.read_text())
        for match in IN_PROSE.finditer(text)
        if (name(path), match[0]) not in QUOTED
    ]
    assert not found


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_are_plain(path):
    lines = path.read_text().splitlines()
    assert not [
        (number, match[0]) for number, line in enumerate(lines, 1) for match in IN_PROSE.finditer(line)
    ]


def test_the_help_is_plain():
    def texts(command: object) -> Iterator[str]:
        yield getattr(command, "help", None) or ""
        for parameter in getattr(command, "params", []):
            yield f"{parameter.name} {getattr(parameter, 'help', None) or ''}"
        for child in getattr(command, "commands", {}).values():
            yield from texts(child)

    found = [match[0] for text in texts(typer.main.get_command(app)) for match in IN_PROSE.finditer(text)]
    assert not found


def test_no_page_needs_a_folder_of_this_workplace():
    for path in [*PAGES, *(ROOT / "pipelines").glob("*")]:
        assert "../shared" not in path.read_text(), path


def test_the_words_are_found():
    assert words_of("_dated_looks") & IN_NAMES
    assert words_of("SkyField") & IN_NAMES
    assert not words_of("outlook_overlooked") & IN_NAMES
    assert [line for line, text in prose_of("x = 1  # a look\n") if IN_PROSE.search(text)] == [1]
