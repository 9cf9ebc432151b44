"""Servers that fail in front of the images: a run heals, or names what failed, and never writes zeros."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import distributed
import pytest
from clusters import workers
from misbehaving import Fault, every, files, now_and_then, ranged, serving
from stores import read_store

from cloudgan.distributed.execute import execute
from cloudgan.distributed.worker import Job
from cloudgan.geo.aoi import read_aoi
from cloudgan.io import encodings, frames, placement, readers
from cloudgan.io.store.ledger import DONE
from cloudgan.io.store.store import prepare_store
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = DateRange.parse("2020-05-05/2020-05-10")
HURRY = {
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.05",
    "GDAL_HTTP_LOW_SPEED_TIME": "1",
}
"""GDAL's patience, cut short; a run's own is five retries, and a minute for an answer that does not come."""
GREEN = r"B03\.tif"
EXPECTED_REASONS = {
    Fault.BUSY: "HTTP response code: 429",
    Fault.UNAVAILABLE: "HTTP response code: 503",
    Fault.HANG: "Operation too slow",
    # Fault.IGNORED_RANGE: at the second try GDAL only says that it does not recognise the file.
    Fault.EXPIRED: "HTTP response code: 403",
    Fault.REDIRECT: "Maximum (10) redirects followed",
}
"""The reasons of faults that differ from a broken file."""


@pytest.fixture(scope="module")
def client():
    """One impatient worker."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in HURRY.items():
            patch.setenv(name, value)
        with workers(1) as client:
            yield client


@pytest.fixture
def server(demo):
    with serving(files(demo.catalog.parent)) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(demo, generator, client, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    with serving(files(demo.catalog.parent)) as server:
        assert execute(job_of(demo, generator, server, out), client).failed == {}
    return read_store(out)


def job_of(demo, generator, server, out) -> Job:
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=f"{server.url}/catalog.json")
    assert plan.unit_count == 1
    return Job(plan, generator, prepare_store(str(out), plan.store_spec()))


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_that_passes_leaves_no_trace(fault, server, demo, generator, client, undisturbed, tmp_path):
    job = job_of(demo, generator, server, tmp_path / "out.zarr")
    server.misbehaves = every(fault, of=f"GET .*{GREEN}", times=2)
    report = execute(job, client)
    assert server.done[fault] == 2
    assert report.failed == {}
    assert read_store(tmp_path / "out.zarr") == undisturbed


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_that_stays_fails_by_name_and_a_rerun_heals_it(
    fault, server, demo, generator, client, undisturbed, tmp_path
):
    out = tmp_path / "out.zarr"
    job = job_of(demo, generator, server, out)
    server.misbehaves = every(fault, of=GREEN)
    report = execute(job, client)
    (failed,) = report.failed.values()
    reason = failed.reason
    ids = {item.id for scene in job.plan.scenes for item in scene.items}
    assert any(reason.startswith(f"item {name} could not be read: asset green, ") for name in ids), reason
    assert EXPECTED_REASONS.get(fault, "") in reason
    remedy = "; run the same command again, or give --allow-missing"
    if fault is Fault.EXPIRED:
        remedy = (
            "; the server wants credentials, which are not sent to web addresses; use a public one, or s3://"
        )
    assert reason.endswith(remedy)
    assert "\n" not in reason
    assert report.done == 0
    assert not (job.store.read_ledger() == DONE).any()
    assert not list(out.glob("green/c/**/0"))  # not a pixel of it is written

    server.misbehaves = every(fault, times=0)
    assert execute(job, client).failed == {}  # by the very worker that saw it fail
    assert read_store(out) == undisturbed


def test_many_faults_of_many_kinds_at_once(server, demo, generator, client, undisturbed, tmp_path):
    job = job_of(demo, generator, server, tmp_path / "out.zarr")
    server.misbehaves = now_and_then(5, 0.04, [fault for fault in Fault if fault is not Fault.HANG])
    for _ in range(20):
        if not execute(job, client).failed:
            break
    assert len(server.done) > 2
    assert read_store(tmp_path / "out.zarr") == undisturbed


def command(demo, network64, server, out) -> list[str]:
    options = {
        "--aoi": demo.aoi,
        "--dates": str(SPAN),
        "--stac": f"{server.url}/catalog.json",
        "--model": network64,
        "--out": out,
        "--workers": 1,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "cloudgan.cli.app", "batch", *words, "--json"]


def test_the_command_ends_with_1_and_one_sentence(server, demo, network64, tmp_path):
    server.misbehaves = every(Fault.EXPIRED, of=GREEN)
    call = command(demo, network64, server, tmp_path / "out.zarr")
    done = subprocess.run(
        call, capture_output=True, text=True, timeout=200, check=False, env=os.environ | HURRY
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" not in done.stderr
    assert "rasterio error" not in done.stderr  # said by a library, and again by us
    (failed,) = json.loads(done.stdout)["report"]["failed"]
    assert "asset green, HTTP response code: 403" in failed["reason"]


# Secrets


CANARY = "canary5up3rs3cret"
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_SAS_TOKEN", "GDAL_HTTP_BEARER", "PC_SDK_SUBSCRIPTION_KEY")


@pytest.fixture
def signed(monkeypatch):
    """Every address is signed, with a secret, right before it is read."""
    for module in (encodings, frames, placement, readers):
        monkeypatch.setattr(module, "sign", lambda href, signing: f"{href}?sv=2024&sig={CANARY}%3D,x")
    for name in SECRETS:
        monkeypatch.setenv(name, CANARY)
    for name, value in HURRY.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("reader", ["odc", "stackstac"])
@pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.HTML, Fault.TRUNCATED, Fault.REDIRECT])
def test_no_signature_gets_into_messages_logs_stores_or_pickles(
    fault, reader, signed, server, demo, generator, tmp_path, caplog, capfd
):
    out = tmp_path / "out.zarr"
    job = replace(job_of(demo, generator, server, out), reader=reader)
    server.misbehaves = every(fault, of=GREEN)
    with (
        caplog.at_level(logging.DEBUG, "odc"),
        caplog.at_level(logging.DEBUG, "rasterio"),
        distributed.LocalCluster(
            processes=False, n_workers=1, host="tcp://127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        report = execute(job, client)
    assert any(CANARY in request.path for request in server.seen)  # it was used
    assert report.failed
    output = json.dumps(report.as_json()) + caplog.text + "".join(capfd.readouterr())
    assert CANARY not in output
    assert CANARY.encode() not in pickle.dumps(job)
    written = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert len(written) > 1000
    assert CANARY.encode() not in written


def test_signatures_in_a_catalogue_are_no_part_of_the_store(demo, generator, tmp_path):
    """Of a saved search whose addresses were signed at the time."""
    folder = demo.catalog.parent
    with serving(files(folder)) as server:
        items = [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/*.json"))]
        for body in items:
            for asset in body["assets"].values():
                asset["href"] = f"{server.url}/sentinel-2-l2a/{body['id']}/{asset['href']}?sig={CANARY}"
        saved = tmp_path / "saved.json"
        saved.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(saved))
    assert CANARY in plan.scenes[0].items[0].assets[0].href  # it is read with what it has
    prepare_store(str(tmp_path / "out.zarr"), plan.store_spec())
    assert CANARY not in (tmp_path / "out.zarr" / "zarr.json").read_text()
    assert CANARY not in json.dumps(plan.summary())


# Images are data


def test_an_image_that_names_other_files_is_not_read(server, demo, generator, client, tmp_path):
    """GDAL would read a local file for whoever serves it a VRT under the name of a TIFF."""
    private = next(demo.catalog.parent.rglob("B03.tif"))
    vrt = (
        '<VRTDataset rasterXSize="432" rasterYSize="432"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{private}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()
    job = job_of(demo, generator, server, tmp_path / "out.zarr")
    honest = server.answers

    def answers(request):
        return ranged(request, vrt, "image/tiff") if "B03.tif" in request.path else honest(request)

    server.answers = answers
    for reader in ("odc", "stackstac"):
        (failed,) = execute(replace(job, reader=reader), client).failed.values()
        assert "not recognized as being in a supported file format" in failed.reason
