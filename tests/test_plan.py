import datetime as dt
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from dask.utils import parse_bytes
from hypothesis import given
from hypothesis import strategies as st
from networks import BANDS
from shapely.geometry import box

from cloudgan.catalog import Scene
from cloudgan.errors import InputError
from cloudgan.generator import Contract
from cloudgan.grid import Grid, Lattice, Window
from cloudgan.items import Asset, SourceItem
from cloudgan.plan import BLOCKS, Plan, choose_block, memory_of_unit
from cloudgan.planning import taken_up
from cloudgan.removal import read_window
from cloudgan.signing import Signing
from cloudgan.tiling import Tiling

CONTRACT = Contract("mean", "1", tuple(f"cloudy:{band}" for band in BANDS), BANDS, 256)
TILING = Tiling(256, 192)
REACH = 10
SMALL = Window(-700, 40_100, 1300, 900)


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


SCENES = tuple(scene(dt.date(2020, 4, day)) for day in (3, 8, 13))


def make_plan(window=SMALL, **changes):
    options = {
        "grid": Grid(Lattice(32633, 10.0), window),
        "scenes": SCENES,
        "written": (0, 1, 2),
        "contract": CONTRACT,
        "model": "0" * 64,
        "tiling": TILING,
        "reach": REACH,
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
    assert len(units) == plan.unit_count == plan.blocks[0] * plan.blocks[1]
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
    assert plan.blocks == (3, 2)
    assert plan.unit(5).window == Window(-700 + 1024, 40_100 + 512, 276, 388)
    for index in (-1, 6):
        with pytest.raises(InputError, match=f"units 0 to 5, not {index}"):
            plan.unit(index)


# What identifies a plan


def with_item(**changes):
    return (scene(dt.date(2020, 4, 3), **changes), *SCENES[1:])


def elsewhere(band):
    """The first scene, with one asset at another place."""
    item = source_item(dt.date(2020, 4, 3))
    assets = tuple(
        replace(asset, href="/elsewhere.tif") if asset.band == band else asset for asset in item.assets
    )
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
        {"tiling": Tiling(256, 224)},
        {"reach": 11},
        {"block": 1024},
        {"clip": "POLYGON EMPTY"},
        {"grid": Grid(Lattice(32633, 10.0), SMALL.buffered(1))},
        {"grid": Grid(Lattice(32633, 10.0), Window(-699, 40_100, 1300, 900))},
        {"grid": Grid(Lattice(32633, 20.0), SMALL)},
        {"grid": Grid(Lattice(32633, 10.0, phase_x=5.0), SMALL)},
        {"grid": Grid(Lattice(32733, 10.0), SMALL)},
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
        {"scenes": with_item(footprint=box(15, 46, 15.5, 47).wkt)},
        {"scenes": with_item(sequence=0, generated=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))},
        {"scenes": with_item(signing=Signing.PLANETARY_COMPUTER)},
        {"contract": replace(CONTRACT, training={"psnr": 33})},
        {"grid": Grid(Lattice(32633, 10), SMALL)},
    ],
)
def test_nothing_else_changes_the_digest(change):
    assert make_plan(**change).digest() == make_plan().digest()


def test_the_fields_of_a_plan_are_all_weighed_above():
    decide = {"grid", "scenes", "written", "model", "tiling", "reach", "block", "clip"}
    assert {field.name for field in fields(Plan)} == decide | {"contract", "duplicates"}


def test_the_identity_survives_being_stored_as_json():
    identity = make_plan(clip="POLYGON EMPTY").identity()
    assert json.loads(json.dumps(identity)) == identity


# What it says


def test_the_summary_counts():
    plan = make_plan(written=(1, 2), duplicates=("older",))
    summary = json.loads(json.dumps(plan.summary()))
    assert summary["shape"] == [2, 1300, 900]
    assert summary["dates"] == ["2020-04-08", "2020-04-13"]
    assert summary["items"] == 3
    assert summary["duplicates"] == ["older"]
    assert summary["baselines"] == ["05.09"]
    assert summary["units"] == 6
    assert summary["pixels"] == plan.pixels == 2 * 1300 * 900
    assert summary["bytes_to_write_at_most"] == 2 * 1300 * 900 * (3 * 2 + 1 + 3 * 2)
    assert summary["bytes_of_memory_per_unit"] == plan.memory
    assert summary["digest"] == plan.digest()
    assert summary["bounds"] == [401_000, -6_000, 410_000, 7_000]
    tiles = [len(TILING.tiles(unit.window)) for unit in plan.units()]
    assert summary["tiles_at_most"] == 2 * sum(tiles)


@given(stores, st.sampled_from(BLOCKS))
def test_no_unit_reads_more_than_the_summary_says(window, block):
    plan = make_plan(window, block=block)
    read = [read_window(unit.window, TILING, REACH).shape for unit in plan.units()]
    pixels = sum(height * width for height, width in read)
    assert plan.summary()["bytes_to_read_at_most"] >= 3 * pixels * (3 * 2 + 1)


def test_an_unknown_baseline_is_called_so():
    plan = make_plan(scenes=with_item(processing_baseline=None))
    assert plan.summary()["baselines"] == ["05.09", "unknown"]


# Memory


def memory(block, times=10, contract=CONTRACT, tiling=TILING, reach=REACH):
    return memory_of_unit((block, block), times, contract, tiling, reach)


@given(block=st.sampled_from(BLOCKS[:-1]), times=st.integers(1, 200), reach=st.integers(0, 50))
def test_memory_grows_with_all_that_a_unit_holds(block, times, reach):
    smaller = BLOCKS[BLOCKS.index(block) + 1]
    at_all = memory(block, times, reach=reach)
    assert memory(smaller, times, reach=reach) < at_all
    assert memory(block, times + 1, reach=reach) > at_all
    assert memory(block, times, reach=reach + 1) > at_all
    assert memory(block, times, replace(CONTRACT, bands=(*BANDS, "blue")), reach=reach) > at_all


@given(row=st.integers(-3000, 3000), col=st.integers(-3000, 3000))
def test_memory_covers_the_input_of_a_unit_wherever_it_lies(row, col):
    height, width = read_window(Window(row, col, 512, 512), TILING, REACH).shape
    assert memory(512, 30) > 30 * height * width * (3 * 2 + 1)


def test_a_plan_knows_the_memory_of_its_units():
    assert make_plan(Window(0, 0, 9000, 9000)).memory == memory(512, 3)


def test_a_store_smaller_than_a_unit_needs_no_more_than_its_own_size():
    assert make_plan(Window(0, 0, 100, 200)).memory == memory_of_unit((100, 200), 3, CONTRACT, TILING, REACH)


def choose(shape=(9000, 9000), times=10, budget=None):
    return choose_block(shape, times, CONTRACT, TILING, REACH, budget)


def test_without_a_limit_the_largest_unit_is_the_best():
    assert choose() == 2048


@given(times=st.integers(1, 100), budget=st.integers(10**8, 4 * 10**10))
def test_the_largest_unit_that_fits_is_chosen(times, budget):
    fitting = [block for block in BLOCKS if memory(block, times) <= budget]
    if fitting:
        assert choose(times=times, budget=budget) == fitting[0]
    else:
        with pytest.raises(InputError, match="cannot hold one work unit"):
            choose(times=times, budget=budget)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_unit_that_fits_to_the_byte_fits(block):
    assert choose(budget=memory(block)) == block


@pytest.mark.parametrize(
    ("shape", "block"),
    [((10, 10), 512), ((500, 20), 512), ((900, 10), 1024), ((1500, 300), 2048), ((5, 9999), 2048)],
)
def test_a_small_store_gets_small_units(shape, block):
    assert choose(shape) == block


# Going on with a store


@pytest.mark.parametrize("block", BLOCKS)
def test_the_unit_of_a_store_that_is_taken_up_again_is_kept(block):
    begun = make_plan(block=block).identity()
    assert taken_up(make_plan(), begun, None).identity() == begun


@pytest.mark.parametrize(
    "found", [None, {}, {"block": 300}, make_plan(block=1024, model="1" * 64).identity()]
)
def test_a_store_of_another_plan_changes_nothing(found):
    assert taken_up(make_plan(), found, None) == make_plan()


def test_a_store_whose_units_no_longer_fit_asks_for_the_memory():
    large = make_plan(Window(0, 0, 5000, 5000), block=2048)
    small = make_plan(Window(0, 0, 5000, 5000))
    with pytest.raises(InputError, match=r"begun in units that need .* GB; give --memory"):
        taken_up(small, large.identity(), small.memory)


@given(times=st.integers(1, 300))
def test_a_budget_too_small_is_refused_and_the_remedy_works(times):
    with pytest.raises(InputError) as refusal:
        choose(times=times, budget=10**8)
    message = str(refusal.value)
    assert message.startswith(
        f"a worker's memory of 0.1 GB cannot hold one work unit of 512 x 512 pixels and {times}"
    )
    assert "or fewer dates" in message
    enough = parse_bytes(message.partition("give --memory ")[2].split()[0])
    assert choose((10, 10), times=times, budget=enough) == 512
