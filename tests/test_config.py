import json

import pytest

from cloudgan.config import BatchConfig
from cloudgan.errors import InputError

NEEDED = {"aoi": "field.geojson", "dates": "2020-04/2020-07"}


@pytest.fixture
def job_file(tmp_path):
    """Writes a TOML job."""

    def save(text):
        path = tmp_path / "job.toml"
        path.write_text(text)
        return path

    return save


# Where options are from


def test_flags_alone_make_a_job():
    job = BatchConfig.load(None, NEEDED | {"workers": 2})
    assert (job.aoi, job.dates, job.workers) == ("field.geojson", "2020-04/2020-07", 2)


def test_what_is_not_given_has_a_default():
    job = BatchConfig.load(None, NEEDED | {"out": None, "resolution": None, "clip": None})
    assert job == BatchConfig(**NEEDED)
    assert (job.out, job.resolution, job.max_cloud_cover, job.reader) == (
        "cloudgan.zarr",
        10,
        100,
        "rasterio",
    )
    assert job.memory_bytes is None


def test_a_file_gives_every_option(job_file):
    options = NEEDED | {
        "out": "out.zarr",
        "stac": "https://example.com/stac",
        "collection": "sentinel-2-c1-l2a",
        "resolution": 20,
        "max_cloud_cover": 60.5,
        "context_days": 45,
        "model": "documented",
        "bands": "rgbn",
        "reader": "stackstac",
        "scheduler": "tcp://127.0.0.1:8786",
        "wait": 600,
        "resources": "GPU=1",
        "workers": 3,
        "memory": "4GB",
        "overwrite": True,
        "allow_missing": True,
        "clip": True,
        "offset": "1000",
        "mask": "scl,csmask",
        "snow": "keep",
        "strict": True,
        "score": True,
        "report": True,
    }
    assert set(options) == set(BatchConfig.model_fields)
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    job = BatchConfig.load(job_file(text), {})
    assert job.as_json() == options
    assert job.memory_bytes == 4_000_000_000
    assert BatchConfig.load(job_file(text.replace("_", "-")), {}) == job


def test_resources_are_amounts_by_name():
    assert BatchConfig(**NEEDED).resource_amounts == {}
    assert BatchConfig(**NEEDED, resources="GPU=1, MEM=2.5").resource_amounts == {"GPU": 1, "MEM": 2.5}


@pytest.mark.parametrize("given", ["GPU", "GPU=0", "=1", "GPU=many", "GPU=-1", "GPU=inf", "", "GPU=nan"])
def test_what_are_no_resources_is_refused(given):
    with pytest.raises(InputError, match=r"--resources .*names no amounts; give NAME=NUMBER, such as GPU=1"):
        BatchConfig(**NEEDED, resources=given)


@pytest.mark.parametrize("given", ["scl,csmask", "scl, csmask,", ["scl", "csmask"], ("scl,csmask",)])
def test_masks_are_given_in_a_row_or_one_by_one(given):
    assert BatchConfig(**NEEDED, mask=given).masks == ("scl", "csmask")


def test_a_mask_beside_the_job_file_is_found(job_file, tmp_path):
    path = job_file('aoi = "field.geojson"\ndates = "2020"\nmask = ["scl", "own.onnx"]')
    assert BatchConfig.load(path, {}).masks == ("scl", "own.onnx")
    (path.parent / "own.onnx").touch()
    assert BatchConfig.load(path, {}).masks == ("scl", str(path.parent / "own.onnx"))


def test_locations_are_normalised_in_flags_and_files(job_file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    text = 'aoi = "~/field.geojson"\ndates = "2020"\nout = "file:///a/out.zarr"\nstac = "gcs://bucket/catalog.json"'
    job = BatchConfig.load(job_file(text), {"model": "~/m.onnx"})
    assert (job.aoi, job.out) == ("/home/me/field.geojson", "/a/out.zarr")
    assert (job.stac, job.model) == ("gs://bucket/catalog.json", "/home/me/m.onnx")


@pytest.mark.parametrize(
    ("given", "policy"),
    [("auto", "auto"), ("trust", "trust"), ("none", 0), ("1000", 1000), (1000, 1000), (0, 0)],
)
def test_the_offset_is_a_policy_or_a_number(given, policy):
    assert BatchConfig(**NEEDED, offset=given).offset_policy == policy


@pytest.mark.parametrize("given", ["", "-1000", "0.1", "10001", "all", True, 1.5, None, [1], "9" * 400])
def test_any_other_offset_is_refused(given):
    with pytest.raises(InputError, match="offset"):
        BatchConfig(**NEEDED, offset=given)


def test_flags_override_the_file(job_file):
    file = job_file('aoi = "a.geojson"\ndates = "2020"\nresolution = 20\nclip = true\n')
    job = BatchConfig.load(file, {"dates": "2021", "resolution": None, "clip": False, "workers": None})
    assert (job.aoi, job.dates, job.resolution, job.clip) == ("a.geojson", "2021", 20, False)


def test_paths_in_a_file_count_from_its_folder(job_file, tmp_path):
    for name in ("field.geojson", "model.onnx", "catalog.json"):
        (tmp_path / name).touch()
    file = job_file('aoi = "field.geojson"\ndates = "2020"\nmodel = "model.onnx"\nstac = "catalog.json"')
    job = BatchConfig.load(file, {})
    assert job.aoi == str(tmp_path / "field.geojson")
    assert job.model == str(tmp_path / "model.onnx")
    assert job.stac == str(tmp_path / "catalog.json")


def test_what_is_not_beside_the_file_stays_as_it_is(job_file, tmp_path):
    absolute = tmp_path / "elsewhere" / "field.geojson"
    file = job_file(
        f'aoi = "{absolute}"\ndates = "2020"\nmodel = "documented"\nstac = "earth-search"\nout = "job.toml"'
    )
    job = BatchConfig.load(file, {})
    assert (job.aoi, job.model, job.stac) == (str(absolute), "documented", "earth-search")
    assert job.out == "job.toml"  # what is written counts from where the command runs


def test_paths_given_as_flags_count_from_where_the_command_runs(job_file, tmp_path):
    (tmp_path / "field.geojson").touch()
    assert BatchConfig.load(job_file('dates = "2020"'), {"aoi": "field.geojson"}).aoi == "field.geojson"


# What is refused


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({}, "--aoi and --dates"),
        ({"aoi": "a"}, "--dates"),
        ({"dates": "2020"}, "--aoi"),
        ({"aoi": None}, "--aoi"),
    ],
)
def test_area_and_dates_must_be_given(flags, named):
    with pytest.raises(InputError, match=f"^{named}.* must be given; see cloudgan-batch --help"):
        BatchConfig.load(None, flags)


def test_an_unknown_option_is_named_with_those_there_are(job_file):
    file = job_file('aoi = "a"\ndates = "2020"\ncloud_cover = 20\nmax-cloud-cover = 20\nbuffer = 3')
    match = r"job file .*job\.toml: there is no key buffer, cloud_cover; there are allow_missing, .*, workers"
    with pytest.raises(InputError, match=match):
        BatchConfig.load(file, {})


def test_a_missing_job_file_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"job file .*nowhere\.toml cannot be read \(No such file.*give a TOML"
    ):
        BatchConfig.load(tmp_path / "nowhere.toml", NEEDED)


@pytest.mark.parametrize("text", ["aoi: field.geojson", "aoi = field.geojson", '{"aoi": "a"}', "[job"])
def test_what_is_not_toml_is_refused(job_file, text):
    with pytest.raises(InputError, match=r"job\.toml is no TOML \(.*(line 1|end of document).*\); mend it"):
        BatchConfig.load(job_file(text), NEEDED)


def test_what_is_not_text_is_refused(tmp_path):
    file = tmp_path / "job.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"job\.toml is no TOML"):
        BatchConfig.load(file, NEEDED)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("workers = 1.5", "--workers 1.5 is no whole number"),
        ('workers = "two"', "--workers 'two' is no whole number"),
        ("workers = true", "--workers True is no whole number"),
        ('resolution = "10m"', "--resolution '10m' is no number"),
        ("resolution = true", "--resolution True is no number"),
        ("context_days = 7.5", "--context-days 7.5 is no whole number"),
        ('max_cloud_cover = "20"', "--max-cloud-cover '20' is no number"),
        ("clip = 1", "--clip 1 is no true or false"),
        ('overwrite = "yes"', "--overwrite 'yes' is no true or false"),
        ("memory = 4", "--memory 4 is no text"),
        ("out = 1", "--out 1 is no text"),
        ("model = []", r"--model \[\] is no text"),
        ("collection = {}", "--collection {} is no text"),
        ("dates = 2020-04-03", r"--dates datetime\.date\(2020, 4, 3\) is no text"),
        ("aoi = 5", "--aoi 5 is no text"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(job_file, option, sentence):
    name = option.split(" = ")[0]
    others = [f'{key} = "{value}"' for key, value in NEEDED.items() if key != name]
    with pytest.raises(InputError, match=f"{sentence}; see cloudgan-batch --help"):
        BatchConfig.load(job_file("\n".join([option, *others])), {})


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"reader": "gdal"}, "--reader gdal is unknown; give rasterio, odc or stackstac"),
        ({"max_cloud_cover": -1}, "--max-cloud-cover -1 is not between 0 and 100; give 100, say"),
        ({"max_cloud_cover": 100.5}, "--max-cloud-cover 100.5 is not between"),
        ({"max_cloud_cover": float("nan")}, "--max-cloud-cover nan is not between"),
        ({"context_days": -1}, "--context-days -1 is not between 0 and 3650; give 30, say"),
        ({"context_days": 4000}, "--context-days 4000 is not between"),
        ({"resolution": 0}, "--resolution 0 is not between 0.1 and 10000; give 10, say"),
        ({"resolution": -10.0}, "--resolution -10 is not between"),
        ({"resolution": float("inf")}, "--resolution inf is not between"),
        ({"resolution": float("nan")}, "--resolution nan is not between"),
        ({"workers": 0}, "--workers 0 is below 1; give 1 or more"),
        ({"workers": -2}, "--workers -2 is below 1"),
        ({"memory": "much"}, "--memory much is no size; give one such as 4GB"),
        ({"memory": "4 apples"}, "--memory 4 apples is no size"),
        ({"memory": "nan"}, "--memory nan is no size"),
        ({"memory": "1e400GB"}, "--memory 1e400GB is no size"),
        ({"memory": "0GB"}, "--memory 0GB holds nothing; give a size such as 4GB"),
        ({"memory": "-4GB"}, "--memory -4GB holds nothing"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        BatchConfig.load(None, NEEDED | flags)


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("512MiB", 512 * 2**20), ("4 gb", 4 * 10**9), ("2e9", 2 * 10**9)]
)
def test_memory_is_written_as_dask_writes_it(text, size):
    assert BatchConfig(**NEEDED, memory=text).memory_bytes == size


def test_the_limits_themselves_are_allowed():
    BatchConfig(**NEEDED, max_cloud_cover=0, resolution=10_000, workers=1, context_days=0)
    BatchConfig(**NEEDED, max_cloud_cover=100, resolution=0.1)


def test_a_job_is_json():
    job = BatchConfig(**NEEDED, memory="4GB")
    assert BatchConfig(**json.loads(json.dumps(job.as_json()))) == job


@pytest.mark.parametrize("out", ["s3://key:secret@bucket/out.zarr", "az://account/out.zarr?sig=secret"])
def test_credentials_in_the_output_are_refused_and_not_shown(out):
    with pytest.raises(InputError, match="has credentials or options in it") as caught:
        BatchConfig(**NEEDED | {"out": out})
    assert "secret" not in str(caught.value)
