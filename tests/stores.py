"""What two stores have to have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloudgan.io.store.access import HOME, list_objects, read_object
from cloudgan.io.store.fence import FOLDER
from cloudgan.io.store.ledger import read_entries


def read_store(location: Path | str) -> dict[str, object]:
    """Every byte of a store, and what its ledger says.

    Not what tells when it was run, how often, and from which files.
    """
    keys = [key for key in sorted(list_objects(str(location))) if key != "zarr.json"]
    keys = [key for key in keys if not (key.startswith(HOME) and key.endswith(".json"))]
    of_ledger = (f"{FOLDER}/c/", f"{FOLDER}/run-")
    found = {key: read_object(str(location), key) for key in keys if not key.startswith(of_ledger)}
    return found | {
        f"unit {index}": replace(entry, run=0, plan="")
        for index, entry in enumerate(read_entries(str(location)))
    }
