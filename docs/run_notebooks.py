"""Runs the notebooks of this folder and saves what they print and draw; see `make notebooks`.

They read the demonstration's store, so this runs in a folder that holds `demo/out.zarr`.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

COLOURS = 128  # of a picture, which is a quarter as heavy


def main() -> None:
    """Run all notebooks."""
    for path in sorted((Path(__file__).parent / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, 4)
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
        notebook.metadata["language_info"] = {"name": "python"}
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # the time, which differs each time
            for output in cell.get("outputs", ()):
                shrink_picture(output.get("data", {}))
        nbformat.write(notebook, path)


def shrink_picture(data: dict[str, str]) -> None:
    """Save a picture in few colours, and without the words that stand for it."""
    if "image/png" not in data:
        return
    data.pop("text/plain", None)
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    body = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(body, "PNG", optimize=True)
    data["image/png"] = base64.b64encode(body.getvalue()).decode()


if __name__ == "__main__":
    main()
