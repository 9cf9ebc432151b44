"""What differs between two plans, from the identities that they leave in stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def describe_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two identities of plans, for people: one line each, the old before the new."""
    lines = []
    for name in sorted({*found, *wanted}):
        old, new = found.get(name), wanted.get(name)
        if old == new:
            continue
        if name == "items":
            lines.append(f"items: {_changed(_items_of(old), _items_of(new))}")
        elif name == "dates":
            lines.append(f"dates: {_changed(dict.fromkeys(old or ()), dict.fromkeys(new or ()))}")
        else:
            lines.append(f"{name}: {_short(old)} -> {_short(new)}")
    return lines


def _items_of(days: Mapping[str, Any] | None) -> dict[str, Any]:
    return {item[0]: item[1:] for items in (days or {}).values() for item in items}


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How one collection differs from another: how many names more and fewer, the first few of them."""
    groups = {
        "more": [name for name in new if name not in old],
        "fewer": [name for name in old if name not in new],
        "with other files or another offset": [n for n in new if n in old and new[n] != old[n]],
    }
    parts = []
    for kind, names in groups.items():
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            parts.append(f"{len(names)} {kind} ({shown})")
    return "; ".join(parts) or "in another order"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
