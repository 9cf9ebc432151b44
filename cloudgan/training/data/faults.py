"""What is wrong with a file, in one sentence that names it, whatever library met it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloudgan.errors import CloudganError, InputError


@contextmanager
def name_unreadable(path: Path | str, kind: str, remedy: str) -> Iterator[None]:
    """Turn whatever a broken or odd file makes a library raise into one sentence.

    Args:
        path: The file.
        kind: What it was read as, such as "a netCDF series".
        remedy: What to do about it.

    Raises:
        InputError: What is done within raised something else than an error of ours.
    """
    try:
        yield
    except CloudganError:
        raise
    except Exception as error:  # of GDAL, HDF5, netCDF, zarr, zip, numpy and pyproj alike
        first_line = (str(error).strip() or type(error).__name__).split("\n", maxsplit=1)[0]
        raise InputError(f"{path} cannot be read as {kind}: {first_line}; {remedy}") from error
