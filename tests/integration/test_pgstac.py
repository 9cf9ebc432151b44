"""The whole command through a STAC API as it is run for real, and through one that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import stac_api
import xarray as xr
from misbehaving import Fault, every, files, proxy, serving
from networks import write_network
from stores import read_store

from cloudgan.errors import CatalogError
from cloudgan.geo.aoi import read_aoi
from cloudgan.model.generator import Generator
from cloudgan.schema import Provenance
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac import api as stac_client
from cloudgan.stac.http import HttpLimits
from cloudgan.stac.search import find_scenes
from cloudgan.training.recipe import TrainConfig
from cloudgan.training.trainer import train

RECIPE = Path(__file__).parents[2] / "pipelines" / "train-demo.toml"
SPAN = DateRange.parse("2020-05-01/2020-05-20")
BANDS = ("green", "red", "nir")
HURRY = HttpLimits(connect=2.0, read=1.0, retries=3, backoff=0.01, max_wait=1, total=20.0)


@pytest.fixture(scope="module")
def images(demo):
    """The demonstration's files on a server, as those of a public catalogue are."""
    with serving(files(demo.catalog.parent)) as server:
        yield server


@pytest.fixture(scope="module")
def api(demo, images):
    """The address of an API with the demonstration's items."""
    if reason := stac_api.missing():
        pytest.skip(reason)
    folder = demo.catalog.parent / "sentinel-2-l2a"
    items = [json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))]
    for body in items:
        for asset in body["assets"].values():
            asset["href"] = f"{images.url}/sentinel-2-l2a/{body['id']}/{asset['href'].removeprefix('./')}"
    collection = json.loads((folder / "collection.json").read_text())
    with stac_api.database() as access:
        stac_api.load(access, collection, items)
        with stac_api.stac_api(access) as url:
            yield url


@pytest.fixture
def front(api):
    """A server in front of the API, which passes everything on until a test changes that."""
    with serving(lambda request: proxy(api, own)(request)) as server:

        def own() -> str:
            return server.url

        yield server


def search(url, demo, **options):
    area = read_aoi(demo.aoi).geometry
    return find_scenes(area, SPAN, bands=BANDS, stac=str(url), limits=HURRY, **options)


def outlines(selection):
    """What was found, but for where it lies."""
    return [replace(item, assets=()) for item in selection.items], selection.duplicates


def decloud(demo, stac, model, out):
    """Run the command over the demonstration's field; it must end well."""
    options = {"--aoi": demo.aoi, "--dates": SPAN, "--stac": stac, "--model": model, "--out": out}
    words = [str(word) for pair in options.items() for word in pair]
    call = [sys.executable, "-m", "cloudgan.cli.app", "batch", *words, "--workers", "1", "--json"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_the_command_writes_what_it_writes_from_the_static_catalogue(api, demo, tmp_path):
    network = write_network(tmp_path / "mean64.onnx", tile=64)
    stores = []
    for name, where in {"api": api, "static": demo.catalog}.items():
        out = tmp_path / f"{name}.zarr"
        decloud(demo, where, network, out)
        stores.append(read_store(out))
    assert len(stores[0]) > 10
    assert stores[0] == stores[1]


def test_its_pages_are_followed(front, demo, monkeypatch):
    monkeypatch.setattr(stac_client, "PAGE_SIZE", 2)
    assert outlines(search(front.url, demo)) == outlines(search(demo.catalog, demo))
    searches = [request for request in front.seen if request.line.startswith("POST /search")]
    assert len(searches) > 3
    assert "token" in json.loads(searches[-1].body)


@pytest.mark.parametrize("advertised", ["query", "cql2"])
def test_it_understands_the_cloud_limit_in_either_language(advertised, front, demo):
    honest = front.answers

    def answers(request):
        answer = honest(request)
        if advertised == "cql2" and request.path == "/":
            return replace(answer, body=answer.body.replace(b"item-search#query", b"item-search#no"))
        return answer

    front.answers = answers
    found = search(front.url, demo, max_cloud_cover=60)
    assert outlines(found) == outlines(search(demo.catalog, demo, max_cloud_cover=60))
    assert found.warnings == search(demo.catalog, demo, max_cloud_cover=60).warnings
    assert len(found.items) < len(search(demo.catalog, demo).items)
    asked = json.loads(next(request for request in front.seen if request.method == "POST").body)
    assert {"query": "query" in asked, "cql2": "filter" in asked}[advertised]


def test_what_it_has_not_is_explained(api, demo):
    with pytest.raises(CatalogError, match=r"exist between 2020-05-05 and 2020-05-20: widen --dates"):
        find_scenes(read_aoi(demo.aoi).geometry, DateRange.parse("2019"), bands=BANDS, stac=api, limits=HURRY)
    with pytest.raises(CatalogError, match=r"has no collection landsat, change .*\(it has sentinel-2-l2a\)"):
        search(api, demo, collection="landsat")


def test_what_it_says_of_a_request_that_it_refuses_is_passed_on(front, demo):
    """In its own words, whatever they are."""
    honest = front.answers

    def answers(request):
        broken = request.body.replace(b'"datetime"', b'"datetime": "yesterday", "_"')
        return honest(replace(request, body=broken))

    front.answers = answers
    with pytest.raises(CatalogError, match=r"answers 400 Bad Request \(.*yesterday.*\): check --stac"):
        search(front.url, demo)


PASSING = [Fault.BUSY, Fault.UNAVAILABLE, Fault.HANG, Fault.RESET, Fault.TRUNCATED, Fault.REDIRECT]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_waited_out(fault, front, demo):
    front.misbehaves = every(fault, of="search", times=1)
    assert outlines(search(front.url, demo)) == outlines(search(demo.catalog, demo))
    assert front.done[fault] == 1


STAYING = {
    Fault.BUSY: "answers 429 Too Many Requests, 3 retries on: try later",
    Fault.UNAVAILABLE: "answers 503 Service Unavailable, 3 retries on: try later",
    Fault.HANG: "did not answer within 1 s: check the address and the network",
    Fault.RESET: "cannot be reached: check the address and the network, or try later",
    Fault.TRUNCATED: "cannot be reached: check the address and the network, or try later",
    Fault.HTML: "holds HTML where STAC JSON was expected: give the root of a STAC API",
    Fault.EXPIRED: "answers 403 Forbidden: it wants credentials",
    Fault.REDIRECT: "cannot be reached: check the address .*Exceeded 10 redirects",
}


@pytest.mark.parametrize(("fault", "sentence"), STAYING.items())
def test_a_fault_that_stays_is_named(fault, sentence, front, demo):
    front.misbehaves = every(fault, of="search")
    with pytest.raises(CatalogError, match=sentence) as caught:
        search(front.url, demo)
    assert "\n" not in str(caught.value)
    assert front.url in str(caught.value)


def test_continuous_integration_has_an_api():
    """These tests may be skipped on a laptop, not where they are relied on."""
    if os.environ.get("CI"):
        assert stac_api.missing() is None


def test_the_environment_is_pinned():
    lines = (Path(__file__).parent / "stac-api.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert len(packages) > 20
    assert all("==" in line for line in packages)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_generator_trained_through_the_api_declouds_through_it(api, demo, tmp_path):
    """Training searches the user's own area and dates, as the batch command does."""
    recipe = TrainConfig.load(RECIPE, data=demo.catalog.parent)
    source = recipe.data[0].replace(
        path=api, region="field", aoi=str(demo.aoi), dates="2020-04-20/2020-06-10", split_column=250
    )
    small = recipe.replace(
        data=(source,),
        held_out=("field-east",),
        generator=recipe.generator.replace(width=2),
        stages=(recipe.stages[0].replace(steps=3),),
    )
    trained = train(small, tmp_path / "run")

    card = Generator.load(trained.model).contract.training
    assert set(card["data"]["train"]) == {"field-west"}
    out = tmp_path / "out.zarr"
    decloud(demo, api, trained.model, out)
    with xr.open_zarr(out) as cube:
        generated = cube.provenance.values == Provenance.GENERATED
        assert generated.any()
        assert (cube.green.values[generated] > 0).all()
