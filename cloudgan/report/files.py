"""Files about a run, beside its store: on the disk or in the bucket where that lies."""

from __future__ import annotations

from pathlib import Path

from cloudgan.object_stores import is_object_store, name_failed_writes, open_object_store
from cloudgan.products.geotiff import write_whole


def write_beside(store: str, ending: str, body: bytes) -> str:
    """Write a file beside a store.

    Args:
        store: Path of a directory, or URL of an object store.
        ending: Follows the store's name without its own, as in `-performance.html`.
        body: The file.

    Returns:
        Its path or URL.

    Raises:
        WriteError: The place refused it.
    """
    folder, separator, name = store.rstrip("/").rpartition("/")
    target = f"{folder}{separator}{Path(name).stem}{ending}"
    with name_failed_writes(target):
        if is_object_store(store):
            open_object_store(folder).put(f"{Path(name).stem}{ending}", body)
        else:
            with write_whole(Path(target)) as piece:
                piece.write_bytes(body)
    return target
