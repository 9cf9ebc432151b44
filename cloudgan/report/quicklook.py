"""Pictures of a store to send: a grid of dates, or a time-lapse; observed beside declouded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cloudgan.errors import InputError, StoreError
from cloudgan.io.store.identity import check_format, read_identity
from cloudgan.object_stores import is_object_store, name_failed_writes, normalise_location
from cloudgan.products.geotiff import write_whole
from cloudgan.products.layers import plan_layers
from cloudgan.products.reader import StoreReader
from cloudgan.report.colours import Composite, Stretch, find_composites
from cloudgan.report.content import OnProgress
from cloudgan.report.overview import Overview, choose_step, read_overview
from cloudgan.schema import Provenance
from cloudgan.sentinel2.dates import DateRange

PICTURES = (".png", ".jpg", ".jpeg")
"""Ends of names of grids of dates."""
MOVIES = (".gif", ".webp")
"""Ends of names of time-lapses."""
EDGE = 480
"""Pixels of the longer side of a date's picture, at most."""
COLUMNS = 4
"""Dates of a grid, where nobody said how many."""
_GAP, _CAPTION = 8, 22
_PAPER, _INK = (255, 255, 255), (40, 48, 46)
_HATCH, _HATCH_LINE = (233, 236, 234), (169, 179, 175)


@dataclass(frozen=True, slots=True)
class QuicklookRequest:
    """What a user asks for."""

    store: str
    """Path or URL of a store that a run wrote."""
    out: str
    """File to write; its name says what: see `PICTURES` and `MOVIES`."""
    dates: str | None = None
    """Which dates, in the forms of `DateRange`; None for all."""
    colours: str | None = None
    """Key of a composite, such as `true` or `false`; None for the first that the bands allow."""
    count: int | None = None
    """Dates of a grid: those that are nearest to half cloudy. None for four."""
    group: str | None = None
    """Which UTM zone of a store that has several."""
    frames_per_second: float = 2.0
    """Of a time-lapse."""


@dataclass(frozen=True, slots=True)
class Quicklook:
    """A picture, wholly decided."""

    reader: StoreReader
    """The store."""
    composite: Composite
    """What the picture shows."""
    step: int
    """Pixels of the store that a pixel of the picture is wide."""
    dates: tuple[int, ...]
    """Which dates of the store."""
    stretch: Stretch
    """How numbers become brightness."""

    @classmethod
    def plan(cls, request: QuicklookRequest) -> Quicklook:
        """Decide everything about a picture, without writing.

        Raises:
            InputError: Something cannot be done as asked.
            StoreError: There is no store of cloudgan's.
        """
        _check_name(request.out)
        reader = StoreReader.open(_find_location(request.store, request.group))
        composite = _find_composite(reader, request.colours)
        span = DateRange.parse(request.dates) if request.dates else None
        inside = [layer.dates[0] for layer in plan_layers(reader.days, span, None)]
        step = choose_step(reader.grid.shape, EDGE)
        if Path(request.out).suffix.lower() in PICTURES:
            inside = _choose_telling(reader, inside, step, request.count or COLUMNS)
        bands = sorted(set(composite.bands))
        stretch = Stretch.estimate(read_overview(reader, at, step, bands) for at in Stretch.sample(inside))
        return cls(reader, composite, step, tuple(inside), stretch)

    def draw(self, on_progress: OnProgress) -> Iterator[tuple[str, Image.Image, Image.Image]]:
        """Each date: its name, as observed with its masked places hatched, and declouded."""
        on_progress(0, len(self.dates))
        for done, at in enumerate(self.dates, 1):
            overview = read_overview(self.reader, at, self.step, sorted(set(self.composite.bands)))
            after = _lay_on_hatch(self.stretch.render(overview, self.composite))
            before = _blank(after, overview)
            yield overview.day.isoformat(), Image.fromarray(before), Image.fromarray(after)
            on_progress(done, len(self.dates))


def write_quicklook(request: QuicklookRequest, on_progress: OnProgress | None = None) -> Path:
    """Write a picture of a store.

    Returns:
        The file.

    Raises:
        InputError: Something cannot be done as asked.
        StoreError: There is no store of cloudgan's, or it is damaged.
        WriteError: The place refused it.
    """
    plan = Quicklook.plan(request)
    path = Path(normalise_location(request.out))
    drawn = plan.draw(on_progress or _ignore)
    suffix = path.suffix.lower()
    with name_failed_writes(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as piece:
            if suffix in PICTURES:
                kind = "PNG" if suffix == ".png" else "JPEG"
                lay_out_grid(list(drawn)).save(piece, kind)
            else:
                frames = (_lay_out_frame(*one) for one in drawn)
                next(frames).save(
                    piece,
                    "GIF" if suffix == ".gif" else "WEBP",
                    save_all=True,
                    append_images=frames,
                    duration=round(1000 / request.frames_per_second),
                    loop=0,
                )
    return path


def lay_out_grid(drawn: Sequence[tuple[str, Image.Image, Image.Image]]) -> Image.Image:
    """A column for each date: its name, as observed, declouded."""
    width, height = drawn[0][1].size
    size = (
        len(drawn) * (width + _GAP) - _GAP,
        _CAPTION + 2 * height + _GAP,
    )
    sheet = Image.new("RGB", size, _PAPER)
    for column, (day, before, after) in enumerate(drawn):
        left = column * (width + _GAP)
        _write(sheet, (left, 0), day)
        sheet.paste(before, (left, _CAPTION))
        sheet.paste(after, (left, _CAPTION + height + _GAP))
    return sheet


def _lay_out_frame(day: str, before: Image.Image, after: Image.Image) -> Image.Image:
    width, height = before.size
    is_wide = width > height
    size = (width, 2 * height + _GAP + _CAPTION) if is_wide else (2 * width + _GAP, height + _CAPTION)
    frame = Image.new("RGB", size, _PAPER)
    _write(frame, (0, 0), f"{day}: observed, declouded")
    frame.paste(before, (0, _CAPTION))
    frame.paste(after, (0, _CAPTION + height + _GAP) if is_wide else (width + _GAP, _CAPTION))
    return frame


def _write(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(sheet).text((place[0] + 2, place[1] + 2), text, fill=_INK, font=font)


def _ignore(done: int, total: int) -> None:
    """The default of `on_progress`."""


def _check_name(out: str) -> None:
    known = ", ".join((*PICTURES, *MOVIES))
    if is_object_store(out):
        raise InputError(f"{out} is an object store, and a picture is a file on a disk; give a path")
    if Path(out).suffix.lower() not in (*PICTURES, *MOVIES):
        raise InputError(
            f"the name {out} does not say what to write; give one that ends in {known}: the first are "
            "grids of dates, the last two are time-lapses"
        )


def _find_location(store: str, group: str | None) -> str:
    """The store of one zone."""
    location = normalise_location(store)
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    check_format(location, identity)
    if "zones" not in identity:
        if group is not None:
            raise InputError(f"{location} has one UTM zone and no groups; leave --group {group} out")
        return location
    zones = identity["zones"]
    if group not in zones:
        raise InputError(
            f"{location} has a group for each UTM zone, and {group or 'none'} was named; "
            f"give --group, one of {', '.join(zones)}"
        )
    return f"{location.rstrip('/')}/{group}"


def _find_composite(reader: StoreReader, key: str | None) -> Composite:
    known = {one.key: one for one in find_composites(reader.bands)}
    if key is None:
        return next(iter(known.values()))
    if key not in known:
        raise InputError(
            f"the store has no bands for colours {key!r}; give one of {', '.join(known)}, or a "
            "store with more bands"
        )
    return known[key]


def _choose_telling(reader: StoreReader, dates: Sequence[int], step: int, count: int) -> list[int]:
    """The dates that are nearest to half cloudy, in order of time: both pictures show something."""
    generated = [read_overview(reader, at, step, ()).figures.share(Provenance.GENERATED) for at in dates]
    nearest = np.argsort(np.abs(np.array(generated) - 0.5), kind="stable")[:count]
    return [dates[at] for at in sorted(nearest)]


def _hatch(shape: tuple[int, int]) -> NDArray[np.uint8]:
    rows, cols = np.indices(shape)
    is_line = (rows + cols) % 8 == 0
    return np.where(is_line[..., None], _HATCH_LINE, _HATCH).astype(np.uint8)


def _lay_on_hatch(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(rgba[..., 3:] > 0, rgba[..., :3], _hatch(rgba.shape[:2]))


def _blank(picture: NDArray[np.uint8], overview: Overview) -> NDArray[np.uint8]:
    """The picture with all that was not observed hatched."""
    observed = overview.provenance == Provenance.OBSERVED
    return np.where(observed[..., None], picture, _hatch(observed.shape))
