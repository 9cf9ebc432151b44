import datetime as dt
import json
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import BANDS
from shapely.geometry import box

from cloudgan.errors import InputError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.masks.contract import DetectorContract
from cloudgan.masks.detector import DetectorSpec
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.planning.offsets import OffsetFinding
from cloudgan.planning.plan import Plan, estimate_share_of_tiles
from cloudgan.planning.planner import continue_plan
from cloudgan.planning.units import BLOCKS, estimate_unit_memory
from cloudgan.removal.core import window_to_read
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.classification import ClassRules
from cloudgan.sentinel2.offset import Verdict
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.search import LeftOut, Scene
from cloudgan.stac.signing import Signing

CONTRACT = Contract("mean", "1", tuple(Channel(Source.TARGET, band) for band in BANDS), BANDS, 256)
TILING = Tiling(256, 192)
BUFFER = 10
SMALL = Window(-700, 40_100, 1300, 900)
SQUARE = box(14, 0, 15, 0.05).wkt


def source_item(day, sequence=0, **changes):
    """An item as a search makes it, with files that need not be there."""
    name = f"S2A_33TWM_{day:%Y%m%d}_{sequence}_L2A"
    item = SourceItem(
        id=name,
        collection="sentinel-2-l2a",
        datetime=dt.datetime(day.year, day.month, day.day, 10, tzinfo=dt.UTC),
        epsg=32633,
        footprint=box(15, 46, 16, 47).wkt,
        assets=tuple(Asset(band, f"/data/{name}/{band}.tif", None, None) for band in (*BANDS, "scl")),
        offset=0,
        processing_baseline="05.09",
        sequence=sequence,
        generated=None,
        cloud_cover=10.0,
        mgrs_tile="33TWM",
        datatake=None,
        datastrip=None,
        signing=Signing.NONE,
    )
    return replace(item, **changes)


def scene(day, **changes):
    return Scene(day, 32633, (source_item(day, **changes),))


DETECTOR = DetectorContract("d", "1", ("red",), (0.0,), (1.0,), 32, ("clear", "cloud"), ("cloud",))
SCENES = tuple(scene(dt.date(2020, 4, day)) for day in (3, 8, 13))


def make_plan(window=SMALL, **changes):
    options = {
        "grid": Grid(Lattice(32633, 10.0), window),
        "scenes": SCENES,
        "written": (0, 1, 2),
        "contract": CONTRACT,
        "model": "0" * 64,
        "tiling": TILING,
        "buffer": BUFFER,
        "block": 512,
    }
    return Plan(**options | changes)


# Work units

stores = st.builds(
    Window, st.integers(-5000, 5000), st.integers(-5000, 50_000), st.integers(1, 5000), st.integers(1, 5000)
)


@given(stores, st.sampled_from(BLOCKS))
def test_each_pixel_of_the_store_is_in_one_unit(window, block):
    plan = make_plan(window, block=block)
    times_held = np.zeros(window.shape, np.uint8)
    for unit in plan.units():
        times_held[unit.window.slices_in(window)] += 1
    assert (times_held == 1).all()


@given(stores, st.sampled_from(BLOCKS))
def test_a_unit_is_a_whole_shard(window, block):
    plan = make_plan(window, block=block)
    units = list(plan.units())
    assert len(units) == plan.unit_count == -(-window.height // block) * -(-window.width // block)
    assert [unit.index for unit in units] == list(range(plan.unit_count))
    for unit in units:
        rows, cols = unit.window.slices_in(window)
        for part, size in ((rows, window.height), (cols, window.width)):
            assert part.start % block == 0
            assert part.stop == min(part.start + block, size)


@given(stores, st.sampled_from(BLOCKS), st.integers(-100, 10_000))
def test_only_units_of_the_plan_can_be_asked_for(window, block, index):
    plan = make_plan(window, block=block)
    if 0 <= index < plan.unit_count:
        assert plan.unit(index) == list(plan.units())[index]
    else:
        with pytest.raises(InputError, match=f"units 0 to {plan.unit_count - 1}, not {index}"):
            plan.unit(index)


def test_the_last_unit_is_the_last():
    plan = make_plan()
    assert plan.unit_count == 3 * 2
    assert plan.unit(5).window == Window(-700 + 1024, 40_100 + 512, 276, 388)
    for index in (-1, 6):
        with pytest.raises(InputError, match=f"units 0 to 5, not {index}"):
            plan.unit(index)


# What identifies a plan


def with_item(**changes):
    return (scene(dt.date(2020, 4, 3), **changes), *SCENES[1:])


def elsewhere(band, **changes):
    """The first scene, with one asset at another address, or as the changes say."""
    changes = changes or {"href": "/elsewhere.tif"}
    item = source_item(dt.date(2020, 4, 3))
    assets = tuple(replace(asset, **changes) if asset.band == band else asset for asset in item.assets)
    return with_item(assets=assets)


@pytest.mark.parametrize(
    "change",
    [
        {"scenes": with_item(id="another")},
        {"scenes": with_item(offset=1000)},
        {"scenes": elsewhere("red")},
        {"scenes": elsewhere("scl")},
        {"scenes": SCENES[1:], "written": (0, 1)},
        {
            "scenes": (
                replace(SCENES[0], items=(SCENES[0].items[0], source_item(dt.date(2020, 4, 3), 1))),
                *SCENES[1:],
            )
        },
        {"scenes": (replace(SCENES[0], date=dt.date(2020, 4, 2)), *SCENES[1:])},
        {"written": (0, 1)},
        {"model": "1" * 64},
        {"contract": replace(CONTRACT, input_channels=CONTRACT.input_channels[::-1])},
        {"contract": replace(CONTRACT, output_bands=BANDS[::-1])},
        {"contract": replace(CONTRACT, predicts_uncertainty=True)},
        {"tiling": Tiling(256, 224)},
        {"buffer": 11},
        {"block": 1024},
        {"span": 2},
        {"max_age": 60},
        {"rules": ClassRules(snow="keep")},
        {"rules": ClassRules(is_used=False)},
        {"detectors": (DetectorSpec(DETECTOR, "0" * 64, MaskSource.DETECTOR),)},
        {"detectors": (DetectorSpec(DETECTOR, "1" * 64, MaskSource.DETECTOR),)},
        {"is_temporal": True},
        {"parts": (Window(-700, 40_100, 10, 10),)},
        {"clip": SQUARE},
        {"grid": Grid(Lattice(32633, 10.0), SMALL.buffered(1))},
        {"grid": Grid(Lattice(32633, 10.0), Window(-699, 40_100, 1300, 900))},
        {"grid": Grid(Lattice(32633, 20.0), SMALL)},
        {"grid": Grid(Lattice(32633, 10.0, phase_x=5.0), SMALL)},
        {"grid": Grid(Lattice(32733, 10.0), SMALL)},
        {"scenes": with_item(footprint=box(15, 46, 15.5, 47).wkt)},
        {"scenes": elsewhere("red", transform=(10.0, 0.0, 2000.0, 0.0, -10.0, 0.0))},
        {"scenes": elsewhere("red", shape=(5490, 5490))},
    ],
)
def test_whatever_decides_a_byte_of_the_store_changes_the_digest(change):
    assert make_plan(**change).digest() != make_plan().digest()


def test_the_order_of_mosaicking_decides_bytes():
    day = dt.date(2020, 4, 3)
    items = source_item(day), source_item(day, 1)
    orders = [
        make_plan(scenes=(Scene(day, 32633, order), *SCENES[1:])).digest() for order in (items, items[::-1])
    ]
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"duplicates": ("S2A_33TWM_20200403_0_L2A",)},
        {"left_out": (LeftOut("S2A_33TWM_20200403_0_L2A", "it has no band red"),)},
        {"offsets": (OffsetFinding("S2A_33TWM_20200403_0_L2A", 1000, 0, Verdict.CONTRADICTS),)},
        {"scenes": with_item(sequence=0, generated=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))},
        {"scenes": with_item(signing=Signing.PLANETARY_COMPUTER)},
        {"contract": replace(CONTRACT, training={"psnr": 33})},
        {"contract": replace(CONTRACT, name="other", version="2", supersedes=("2" * 64,))},
        {"grid": Grid(Lattice(32633, 10), SMALL)},
    ],
)
def test_nothing_else_changes_the_digest(change):
    assert make_plan(**change).digest() == make_plan().digest()


def test_the_fields_of_a_plan_are_all_weighed_above():
    decide = {
        "grid",
        "scenes",
        "written",
        "model",
        "tiling",
        "buffer",
        "block",
        "span",
        "max_age",
        "rules",
        "detectors",
        "is_temporal",
        "parts",
        "clip",
    }
    assert {field.name for field in fields(Plan)} == decide | {
        "contract",
        "duplicates",
        "left_out",
        "offsets",
    }


def test_the_release_does_not_change_the_digest(monkeypatch):
    before = make_plan().digest()
    monkeypatch.setattr("cloudgan.planning.plan.__version__", "99.0")
    assert make_plan().digest() == before


def test_the_identity_survives_being_stored_as_json():
    identity = make_plan(clip=SQUARE).identity()
    assert json.loads(json.dumps(identity)) == identity


# What it says


def test_the_summary_counts():
    plan = make_plan(written=(1, 2), duplicates=("older",))
    summary = json.loads(json.dumps(plan.summary()))
    assert summary["shape"] == [2, 1300, 900]
    assert summary["dates"] == ["2020-04-08", "2020-04-13"]
    assert summary["context_dates"] == ["2020-04-03"]
    assert summary["items"] == 3
    assert summary["duplicates"] == ["older"]
    assert summary["baselines"] == ["05.09"]
    assert summary["units"] == 6
    assert summary["pixels"] == plan.pixels == 2 * 1300 * 900
    assert summary["bytes_to_write_at_most"] == 2 * 1300 * 900 * (3 * 2 + 2 + 3 * 2)
    assert summary["bytes_of_memory_per_unit"] == plan.memory
    assert summary["bytes_of_memory_per_worker"] is None
    assert plan.summary(10**9)["bytes_of_memory_per_worker"] == 10**9
    assert summary["digest"] == plan.digest()
    assert summary["bounds"] == [401_000, -6_000, 410_000, 7_000]
    tiles = [len(TILING.tiles(unit.window)) for unit in plan.units()]
    assert summary["tiles_at_most"] == 2 * sum(tiles)
    assert summary["tiles_estimated"] == round(2 * sum(tiles) * estimate_share_of_tiles(0.1, 2560))


@given(stores, st.sampled_from(BLOCKS))
def test_the_units_read_what_the_summary_says(window, block):
    plan = make_plan(window, block=block)
    read = [window_to_read(unit.window, TILING, BUFFER).shape for unit in plan.units()]
    pixels = sum(height * width for height, width in read)
    assert plan.summary()["bytes_to_read_at_most"] == 3 * pixels * (3 * 2 + 1)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([320.0, 2560.0, 30720.0]))
def test_more_cloud_and_larger_tiles_are_more_tiles_with_cloud(one, other, metres):
    low, high = sorted((one, other))
    assert estimate_share_of_tiles(low, metres) <= estimate_share_of_tiles(high, metres) <= 1
    assert estimate_share_of_tiles(low, metres) <= estimate_share_of_tiles(low, 2 * metres)
    assert estimate_share_of_tiles(0, metres) == 0


def test_an_item_without_cloud_cover_may_be_all_cloud():
    known, unknown = (make_plan(scenes=with_item(cloud_cover=cover)).summary() for cover in (0.0, None))
    assert unknown["tiles_estimated"] - known["tiles_estimated"] == unknown["tiles_at_most"] / 3


def test_an_unknown_baseline_is_called_so():
    plan = make_plan(scenes=with_item(processing_baseline=None))
    assert plan.summary()["baselines"] == ["05.09", "unknown"]


# Going on with a store


@pytest.mark.parametrize("block", BLOCKS)
def test_the_unit_of_a_store_that_is_taken_up_again_is_kept(block):
    begun = make_plan(block=block).identity()
    assert continue_plan(make_plan(), begun, None).identity() == begun


@pytest.mark.parametrize(
    "found", [None, {}, {"block": 300}, make_plan(block=1024, model="1" * 64).identity()]
)
def test_a_store_of_another_plan_changes_nothing(found):
    assert continue_plan(make_plan(), found, None) == make_plan()


def test_a_store_whose_units_no_longer_fit_asks_for_the_memory():
    large = make_plan(Window(0, 0, 5000, 5000), block=2048)
    small = make_plan(Window(0, 0, 5000, 5000))
    with pytest.raises(InputError, match=r"begun in units that need .* GB; give --memory"):
        continue_plan(small, large.identity(), small.memory)


# Memory and cuts


def test_a_plan_knows_the_memory_of_its_units():
    plan = make_plan(Window(0, 0, 9000, 9000))
    assert plan.memory == estimate_unit_memory((512, 512), 3, CONTRACT, TILING, BUFFER)
    kept = replace(plan, span=1, rules=ClassRules(snow="keep"))
    assert replace(kept, max_age=5).memory == plan.memory  # the one in the middle reads all three
    assert replace(kept, max_age=4).memory == estimate_unit_memory((512, 512), 1, CONTRACT, TILING, BUFFER)


def test_a_unit_reads_the_dates_that_confirm_the_snow_of_its_clear_dates():
    days = [dt.date(2020, 1, 1) + dt.timedelta(days) for days in (0, 6, 35, 40)]
    plan = make_plan(scenes=tuple(map(scene, days)), written=(3,), max_age=5)
    assert plan.unit(0).scenes == range(1, 4)
    assert replace(plan, rules=ClassRules(snow="cloud")).unit(0).scenes == range(2, 4)


def test_a_store_smaller_than_a_unit_needs_no_more_than_its_own_size():
    plan = make_plan(Window(0, 0, 100, 200))
    assert plan.memory == estimate_unit_memory((100, 200), 3, CONTRACT, TILING, BUFFER)


@given(st.integers(1, 4), st.integers(0, 11))
def test_units_cut_in_time_write_each_shard_once(span, max_age):
    plan = make_plan(span=span, max_age=max_age)
    written = [(at, unit.window) for unit in plan.units() for at in unit.dates]
    assert len(written) == len(set(written)) == 6 * 3
    assert [unit.index for unit in plan.units()] == list(range(plan.unit_count))
    assert all(plan.unit(unit.index) == unit for unit in plan.units())
    for unit in plan.units():
        assert {plan.written[at] for at in unit.dates} <= set(unit.scenes)


def test_units_are_where_the_parts_are():
    parts = (Window(-700, 40_100, 30, 50), Window(500, 40_900, 100, 100))
    plan = make_plan(parts=parts)
    assert [unit.target for unit in plan.units()] == list(parts)
    assert [unit.window for unit in plan.units()] == [
        Window(-700, 40_100, 512, 512),
        Window(324, 40_612, 276, 388),
    ]
    assert plan.unit_count == 2
    assert plan.pixels == 3 * (30 * 50 + 100 * 100)
    outside = plan.outside(SMALL)
    assert np.count_nonzero(~outside) == 30 * 50 + 100 * 100


def test_a_million_units_are_counted_without_being_made(monkeypatch):
    """What is proportional to the units are arrays of numbers; benchmarks/planning.py has the seconds."""
    plan = make_plan(Window(0, 0, 512_000, 512_000), span=1, max_age=1)
    monkeypatch.setattr(Plan, "_unit", None)
    summary = plan.summary()
    assert summary["units"] == plan.unit_count == 3_000_000
    assert summary["pixels"] == 3 * 512_000**2
    assert len(pickle.dumps(plan)) < 10_000
    with pytest.raises(TypeError):
        next(plan.units())
