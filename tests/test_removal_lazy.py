"""Cloud removal on an xarray cube: the same bits lazily, with coordinates and attributes kept."""

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from networks import BANDS
from random_observations import DAYS, decloud, random_classes

from cloudgan import schema
from cloudgan.errors import InputError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.observations import Observations
from cloudgan.removal.lazy import remove_clouds
from cloudgan.schema import MaskSource, Provenance
from cloudgan.sentinel2.classification import SCL_MISSING, PixelClass
from cloudgan.sentinel2.dates import day_numbers

DTYPES = {one.name: one.dtype for one in schema.variables(BANDS)}


def make_cube(height=50, width=67, seed=0, bands=BANDS, resolution=20.0):
    """A cube made by hand, on a lattice of 20 m."""
    rng = np.random.default_rng(seed)
    grid = Grid(Lattice(32633, resolution), Window(-260_021, 19_991, height, width))
    pixel_classes = random_classes(rng, (len(DAYS), height, width))
    scl = np.array([0, 4, 9, 1, SCL_MISSING], np.uint8)[pixel_classes]
    valid = ~np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING])
    return xr.Dataset(
        {
            band: (
                ("time", "y", "x"),
                np.where(valid, rng.integers(1, 9000, pixel_classes.shape), 0).astype(np.uint16),
            )
            for band in bands
        }
        | {"scl": (("time", "y", "x"), scl)},
        {
            "time": DAYS.astype("datetime64[D]").astype("datetime64[ns]"),
            "y": grid.y(),
            "x": grid.x(),
            "spatial_ref": 0,
            "item_ids": ("time", ["a", "b", "c", "d"]),
        },
        {"title": "made by hand"},
    )


def fail(*args, **kwargs):
    raise AssertionError("computed too early")


def test_the_cube_holds_what_the_core_returns(generator):
    cube = make_cube()
    made = remove_clouds(cube, generator, buffer_metres=80)
    window = Window(-260_021, 19_991, 50, 67)
    pixel_classes = np.zeros((4, 50, 67), np.uint8)
    for scl, pixel_class in ((0, 0), (4, 1), (9, 2), (1, 3), (SCL_MISSING, 4)):
        pixel_classes[cube["scl"].values == scl] = pixel_class
    observations = Observations(window, {band: cube[band].values for band in BANDS}, pixel_classes, DAYS)
    for at, date in enumerate(decloud(observations, window, generator, buffer=4)):
        for name, values in date.variables(BANDS).items():
            np.testing.assert_array_equal(made[name].values[at], values, err_msg=name)


@pytest.mark.parametrize(
    "chunks",
    [
        {"time": 1, "y": 50, "x": 67},
        {"time": 4, "y": 20, "x": 20},
        {"time": 1, "y": 17, "x": 31},
        {"time": (3, 1), "y": (1, 40, 9), "x": (33, 34)},
    ],
)
def test_a_lazy_cube_gives_the_same_bits(generator, chunks):
    cube = make_cube()
    whole = remove_clouds(cube, generator)
    lazy = cube.chunk(chunks)
    with dask.config.set(scheduler=fail):
        made = remove_clouds(lazy, generator)
    for name in whole:
        assert dask.is_dask_collection(made[name].data)
        assert made[name].chunks == lazy["green"].chunks
        assert made[name].dtype == whole[name].dtype
    xr.testing.assert_identical(made.compute(scheduler="threads"), whole)


def test_a_part_of_a_lazy_cube_reads_no_more_than_it_needs(generator):
    cube = make_cube(height=160, width=40).chunk({"time": 4, "y": 16, "x": 40})
    read = []

    def record(block, block_info=None):
        read.append(block_info[0]["chunk-location"][1])
        return block

    green = cube["green"].data.map_blocks(record, dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    cube["green"] = (("time", "y", "x"), green)
    made = remove_clouds(cube, generator, buffer_metres=20)
    made["green"].isel(y=slice(0, 16)).compute(scheduler="synchronous")
    assert read
    assert max(read) <= 3


def test_other_dates_are_used_through_the_cube(temporal):
    cube = make_cube(bands=["green"])
    made = remove_clouds(cube, temporal)
    lazy = remove_clouds(cube.chunk({"time": 2, "y": 30, "x": 25}), temporal)
    xr.testing.assert_identical(lazy.compute(scheduler="threads"), made)
    assert set(made) == {"green", "provenance", "mask_source", "days_before", "days_after", "uncertainty"}
    gap = cube["green"].values == 0
    assert (made["provenance"].values[gap] == Provenance.GENERATED).any()


def test_coordinates_and_attributes_stay(generator):
    cube = make_cube()
    made = remove_clouds(cube, generator)
    assert made.attrs == {"title": "made by hand"}
    assert set(made.coords) == {"time", "y", "x", "spatial_ref", "item_ids"}
    xr.testing.assert_identical(made.coords.to_dataset(), cube.coords.to_dataset())
    assert {name: made[name].dtype for name in made} == DTYPES
    assert all(made[name].dims == ("time", "y", "x") for name in made)


def test_the_order_of_dimensions_does_not_matter(generator):
    cube = make_cube()
    xr.testing.assert_identical(
        remove_clouds(cube.transpose("y", "x", "time"), generator), remove_clouds(cube, generator)
    )


def test_the_buffer_is_in_metres(generator):
    cube = make_cube()
    masks = [
        (remove_clouds(cube, generator, buffer_metres=metres)["provenance"] == Provenance.GENERATED).values
        for metres in (0, 20, 100)
    ]
    valid = cube["green"].values > 0
    np.testing.assert_array_equal(masks[0], (cube["scl"].values == 9) & valid)
    assert masks[0].sum() < masks[1].sum() < masks[2].sum()


def test_a_cube_that_lacks_a_band_is_refused(generator):
    cube = make_cube()
    with pytest.raises(InputError, match="the cube lacks nir, which mean needs; it has green, red, scl"):
        remove_clouds(cube.drop_vars("nir"), generator)
    with pytest.raises(InputError, match="the cube lacks scl"):
        remove_clouds(cube.drop_vars("scl"), generator)


@pytest.mark.parametrize(
    "change",
    [
        {"x": lambda x: x**1.01},
        {"y": lambda y: y[::-1]},
        {"x": lambda x: x[::-1]},
        {"x": lambda x: 2 * x},
        {"x": lambda x: np.where(np.arange(len(x)) > 30, x + 20, x)},
    ],
)
def test_an_irregular_grid_is_refused(generator, change):
    cube = make_cube()
    (name, bend), *_ = change.items()
    with pytest.raises(InputError, match="no regular grid, x rising and y falling by the same step"):
        remove_clouds(cube.assign_coords({name: bend(cube[name].values)}), generator)


def test_a_cube_of_one_pixel_without_a_resolution_is_refused(generator):
    with pytest.raises(InputError, match="one pixel does not tell its resolution; open it with a margin"):
        remove_clouds(make_cube().isel(y=slice(0, 1), x=slice(0, 1)), generator)


def test_a_negative_buffer_is_refused(generator):
    with pytest.raises(InputError, match="zero or a positive number of metres"):
        remove_clouds(make_cube(), generator, buffer_metres=-1)


def test_days_are_counted_from_1970():
    assert day_numbers(make_cube()["time"].values).tolist() == DAYS.tolist()


@pytest.mark.parametrize("form", ["array", "data array", "lazy", "lazy cube"])
def test_the_mask_of_the_user_decides_alone(generator, form):
    cube = make_cube()
    cloudy = np.random.default_rng(3).random(cube["scl"].shape) < 0.1
    scl = np.where(cloudy, 9, 4).astype(np.uint8)
    wanted = remove_clouds(cube.assign(scl=(("time", "y", "x"), scl)), generator, buffer_metres=40)
    given = {
        "array": cloudy,
        "data array": xr.DataArray(cloudy, dims=("time", "y", "x")).transpose("x", "time", "y"),
        "lazy": dask.array.from_array(cloudy, chunks=(1, 20, 30)),
        "lazy cube": cloudy,
    }[form]
    source = cube.drop_vars("scl")
    made = remove_clouds(
        source.chunk({"y": 20}) if form == "lazy cube" else source, generator, mask=given, buffer_metres=40
    ).compute()
    for name in DTYPES.keys() - {"mask_source"}:
        np.testing.assert_array_equal(made[name].values, wanted[name].values, err_msg=name)
    by_user = (made["mask_source"].values & MaskSource.USER) > 0
    shown = np.any([cube[band].values > 0 for band in BANDS], axis=0)
    np.testing.assert_array_equal(by_user, cloudy & shown)
    assert not (made["mask_source"].values & MaskSource.SCL).any()


def test_snow_is_what_the_user_says_it_is(generator):
    cube = make_cube()
    cube["scl"][:] = 11
    shares = {
        snow: float((remove_clouds(cube, generator, snow=snow)["provenance"] == 2).mean())
        for snow in ("keep", "auto", "cloud")
    }
    assert shares["keep"] < shares["auto"] <= shares["cloud"]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((4, 50, 67), np.uint8), r"uint8 of shape \(4, 50, 67\), and must be bool"),
        (np.zeros((50, 67), bool), r"bool of shape \(50, 67\), and must be bool of shape \(4, 50, 67\)"),
        ([[True]], "the mask is list, and must be bool"),
        (xr.DataArray(np.zeros((50, 67), bool), dims=("y", "x")), r"the mask has dimensions \('y', 'x'\)"),
    ],
)
def test_a_mask_of_another_shape_or_type_is_refused(generator, mask, reason):
    with pytest.raises(InputError, match=reason):
        remove_clouds(make_cube(), generator, mask=mask)
