"""Pictures of a store: a grid of dates, and a time-lapse."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_products import DAYS, TALL, fill

from cloudgan.cli.app import main
from cloudgan.errors import InputError, StoreError
from cloudgan.io.store.store import make_root_group
from cloudgan.products.reader import StoreReader
from cloudgan.report.quicklook import QuicklookRequest, write_quicklook
from cloudgan.schema import Provenance

HEIGHT, WIDTH = TALL.grid.shape


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A finished store of five dates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        path = tmp_path_factory.mktemp("quicklook") / "out.zarr"
        fill(str(path))
    return path


def draw(out: Path, path: Path, **options) -> Image.Image:
    return Image.open(
        io.BytesIO(write_quicklook(QuicklookRequest(str(out), str(path), **options)).read_bytes())
    )


def test_a_grid_has_a_column_for_each_date_and_both_rows_agree_where_observed(out, tmp_path):
    picture = np.asarray(draw(out, tmp_path / "a.png", count=2, dates="2020-04-08/2020-04-13"))
    assert picture.shape == (22 + 2 * HEIGHT + 8, 2 * WIDTH + 8, 3)
    provenance = StoreReader.open(str(out)).arrays["provenance"][1]
    observed = provenance == Provenance.OBSERVED
    before = picture[22 : 22 + HEIGHT, :WIDTH]
    after = picture[22 + HEIGHT + 8 :, :WIDTH]
    np.testing.assert_array_equal(before[observed], after[observed])
    assert {tuple(one) for one in before[~observed]} == {(233, 236, 234), (169, 179, 175)}
    assert (before[provenance == Provenance.GENERATED] != after[provenance == Provenance.GENERATED]).any()


def test_a_grid_shows_the_dates_nearest_to_half_cloudy(out, tmp_path):
    provenance = StoreReader.open(str(out)).arrays["provenance"][:]
    shares = (provenance == Provenance.GENERATED).mean((1, 2))
    nearest = int(np.argmin(np.abs(shares - 0.5)))
    one = draw(out, tmp_path / "one.png", count=1)
    same = draw(out, tmp_path / "same.png", dates=f"2020-04-{DAYS[nearest]:02d}")
    np.testing.assert_array_equal(np.asarray(one)[:22], np.asarray(same)[:22])


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_a_time_lapse_has_all_dates_side_by_side(out, tmp_path, name):
    movie = draw(out, tmp_path / name, frames_per_second=4)
    assert movie.n_frames == len(DAYS)
    assert movie.size == (2 * WIDTH + 8, HEIGHT + 22)
    assert movie.info.get("loop") == 0
    movie.seek(1)
    movie.load()
    assert movie.info["duration"] == 250


def test_what_cannot_be_drawn_is_refused(out, tmp_path):
    with pytest.raises(
        InputError, match=r"^the name .*a\.tif does not say what to write; give one that ends in"
    ):
        draw(out, tmp_path / "a.tif")
    with pytest.raises(
        InputError, match=r"has no bands for colours 'true'; give one of false, or a store with"
    ):
        draw(out, tmp_path / "a.png", colours="true")
    with pytest.raises(InputError, match=r"^the store has no date in 2021"):
        draw(out, tmp_path / "a.png", dates="2021")
    with pytest.raises(StoreError, match=r"^there is no store at"):
        draw(tmp_path / "none.zarr", tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_zone_is_named(tmp_path, out):
    make_root_group(str(tmp_path / "zones.zarr"), ["utm32n", "utm33n"])
    fill(str(tmp_path / "zones.zarr" / "utm33n"))
    with pytest.raises(InputError, match=r"none was named; give --group, one of utm32n, utm33n$"):
        draw(tmp_path / "zones.zarr", tmp_path / "a.png")
    assert draw(tmp_path / "zones.zarr", tmp_path / "a.png", group="utm33n").format == "PNG"
    with pytest.raises(InputError, match="has one UTM zone and no groups; leave --group utm33n out"):
        draw(out, tmp_path / "b.png", group="utm33n")


def test_the_command_prints_the_file_alone(out, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["quicklook", str(out), "--out", str(tmp_path / "a.jpg")])
    assert end.value.code in (0, None)
    assert capsys.readouterr().out == f"{tmp_path / 'a.jpg'}\n"
