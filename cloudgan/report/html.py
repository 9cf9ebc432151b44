"""Small pieces of HTML. Whatever comes from a store is text here, never markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from cloudgan.report.colours import Rgba


def make_table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str, marked: str = "") -> str:
    """A table; the first column names the rows, numbers stand right.

    Args:
        head: Titles of the columns.
        rows: Cells, as text or numbers.
        caption: What the table shows.
        marked: Name of the row that stands out.
    """
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = []
    for row in rows:
        first, *others = map(str, row)
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        kind = ' class="marked"' if first == marked else ""
        body.append(f'<tr{kind}><th scope="row">{escape(first)}</th>{cells}</tr>')
    label = escape(caption)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<caption>{label}</caption><thead><tr>{titles}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def make_list(rows: Iterable[tuple[str, object]]) -> str:
    """Names and what they stand for."""
    return (
        "<dl>"
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in rows)
        + "</dl>"
    )


def make_tiles(tiles: Iterable[tuple[str, str]]) -> str:
    """Figures that are read at a glance: a number and its name."""
    return (
        '<ul class="tiles">'
        + "".join(f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>" for name, value in tiles)
        + "</ul>"
    )


def make_bars(rows: Sequence[tuple[str, float, str]], title: str, marked: str = "") -> str:
    """Horizontal bars with their names and numbers.

    Args:
        rows: Name, length and the number as text.
        title: What the bars show.
        marked: Name of the row that stands out.
    """
    longest = max((length for _, length, _ in rows), default=0) or 1
    parts = []
    for name, length, text in rows:
        kind = ' class="marked"' if name == marked else ""
        parts.append(
            f'<li{kind}><span>{escape(name)}</span><i style="width:{100 * length / longest:.1f}%"></i>'
            f"<b>{escape(text)}</b></li>"
        )
    return f'<ul class="bars" aria-label="{escape(title)}">{"".join(parts)}</ul>'


def make_legend(entries: Iterable[tuple[str, str]]) -> str:
    """Colours and their names.

    Args:
        entries: The style's class, or a colour of CSS, and the name.
    """
    parts = []
    for kind, name in entries:
        swatch = f'style="background:{escape(kind)}"' if kind.startswith("#") else f'class="{escape(kind)}"'
        parts.append(f"<li><i {swatch}></i>{escape(name)}</li>")
    return f'<ul class="legend">{"".join(parts)}</ul>'


def to_css(colour: Rgba) -> str:
    """A colour as CSS writes it."""
    red, green, blue, _ = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def to_json(value: Any) -> str:
    """JSON that may stand within a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
