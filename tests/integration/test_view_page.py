"""The live view as a user has it: the command, a real browser, a store on a disk and one in a bucket."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser
from test_products import TALL, fill
from test_store import scene

from cloudgan.io.store.store import make_root_group

pytestmark = pytest.mark.integration
AXE = Path(__file__).parents[2] / ".tools" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
WIDE, PHONE = (1280, 860), (360, 740)
SLOWEST = 60  # seconds for imports and a store on a machine that does other things


@contextmanager
def serve(store: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command, and the address that it prints; it ends by Ctrl-C."""
    call = [sys.executable, "-m", "cloudgan.cli.app", "view", store, "--port", "0", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(call, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            assert address, process.stderr.read()
            yield address, process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(SLOWEST)
            finally:
                process.kill()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """A store of eight dates."""
    days = list(range(1, 9))
    plan = replace(TALL, scenes=tuple(map(scene, days)), written=tuple(range(len(days))))
    out = str(tmp_path_factory.mktemp("view") / "out.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        fill(out, plan)
    return out


@pytest.fixture(scope="module")
def address(store) -> Iterator[str]:
    with serve(store) as (address, _):
        yield address


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started, address) -> Browser:
    """The page, just loaded on a wide screen in the light."""
    started.resize(*WIDE)
    started.set_scheme("light")
    load(started, address)
    return started


def load(browser: Browser, address: str) -> None:
    browser.visit("about:blank")  # else an address that differs by its fragment alone loads nothing
    browser.visit(address)
    wait_for(browser, shows(""))


def shows(part: str) -> str:
    """Whether a tile with a part of an address is there; a script."""
    return (
        "[...document.querySelectorAll('img.leaflet-tile-loaded')].some("
        f"(one) => one.src.includes({json.dumps(part)}) && one.naturalWidth > 0)"
    )


def wait_for(browser: Browser, script: str) -> None:
    end = time.monotonic() + 20
    while not browser.run(script):
        assert time.monotonic() < end, script
        time.sleep(0.02)


def ask(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


# The page


def test_it_loads_without_a_fault_and_asks_its_own_server_alone(browser, address):
    assert browser.faults == []
    assert {url.startswith(address) for url in browser.requests} == {True}
    assert browser.run("document.getElementById('day').textContent") == "2020-04-01"
    assert browser.run("document.getElementById('message').textContent") == ""


def test_the_date_slides_by_keyboard(browser):
    browser.run("document.getElementById('date').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert browser.run("document.getElementById('day').textContent") == "2020-04-03"
    wait_for(browser, shows("tiles/0/2/false/declouded/"))
    browser.press("End")
    assert browser.run("document.getElementById('day').textContent") == "2020-04-08"
    assert browser.run("document.getElementById('next').disabled") is True
    browser.run("document.getElementById('map').focus()")
    browser.press("PageDown")
    assert browser.run("document.getElementById('day').textContent") == "2020-04-07"
    wait_for(browser, shows("tiles/0/6/false/declouded/"))
    # The tiles of former dates go when those of the last one are there.
    wait_for(browser, f"!{shows('tiles/0/2/')}")
    assert browser.faults == []


def test_before_and_declouded_differ_where_something_was_masked(browser):
    wait_for(browser, shows("/declouded/"))
    browser.run("document.querySelector('input[name=state]:checked').focus()")
    browser.press("ArrowLeft")
    wait_for(browser, shows("/observed/"))
    wait_for(browser, f"!{shows('/declouded/')}")


@pytest.mark.parametrize("picture", ["false", "ndvi", "ndwi"])
def test_colours_are_what_the_bands_allow(browser, picture):
    assert browser.run("document.querySelectorAll('input[name=picture]').length") == 3
    browser.run(f"document.querySelector('input[name=picture][value={picture}]').click()")
    wait_for(browser, shows(f"/{picture}/declouded/"))
    legend = browser.run("document.getElementById('legend').textContent")
    assert ("index" in legend) is (picture != "false")


@pytest.mark.parametrize("layer", ["provenance", "source", "uncertainty"])
def test_layers_lie_over_the_picture(browser, layer):
    browser.run(f"document.querySelector('input[name=layer][value={layer}]').click()")
    wait_for(browser, shows(f"/{layer}/declouded/"))
    assert browser.run(shows("/false/declouded/")) is True
    assert len(browser.run("document.getElementById('legend').textContent")) > 10
    browser.run("document.querySelector('input[name=layer][value=none]').click()")
    wait_for(browser, f"!{shows(f'/{layer}/')}")


def click_map(browser: Browser) -> None:
    middle = "(() => { const box = document.getElementById('map').getBoundingClientRect();"
    middle += "return [box.x + box.width / 2, box.y + box.height / 2] })()"
    x, y = browser.run(middle)
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def test_a_click_shows_the_curve_of_a_pixel(browser):
    click_map(browser)
    wait_for(browser, "!document.getElementById('curve').hidden")
    assert browser.run("document.querySelectorAll('#chart svg circle, #chart svg polygon').length") >= 1
    assert "EPSG:32633" in browser.run("document.getElementById('place').textContent")
    browser.run("document.getElementById('close').click()")
    assert browser.run("document.getElementById('curve').hidden") is True
    assert browser.faults == []


def test_a_view_is_in_its_address(started, address):
    load(started, f"{address}#date=2020-04-05&picture=ndvi&state=observed&layer=provenance")
    wait_for(started, shows("tiles/0/4/ndvi/observed/"))
    assert started.run("document.querySelector('input[name=layer]:checked').value") == "provenance"
    assert started.run("document.getElementById('day').textContent") == "2020-04-05"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_everybody_can_use_it(browser, address, scheme, size):
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make .tools/axe/.done")
    browser.resize(*size)
    browser.set_scheme(scheme)
    load(browser, address)
    browser.run("document.querySelector('input[name=layer][value=source]').click()")
    browser.run("document.querySelector('input[name=picture][value=ndvi]').click()")
    click_map(browser)
    wait_for(browser, "!document.getElementById('curve').hidden")
    assert browser.run("document.documentElement.scrollWidth") <= size[0]
    found = browser.call("Runtime.evaluate", expression=AXE.read_text() + "; 0", returnByValue=True)
    assert "exceptionDetails" not in found
    found = browser.run("axe.run().then((all) => JSON.stringify(all.violations.map("
                        "(one) => [one.id, one.nodes.map((node) => node.html.slice(0, 200))])))")  # fmt: skip
    assert json.loads(found) == []


def test_zones_are_chosen(started, tmp_path, monkeypatch):
    monkeypatch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
    names = ["utm32n", "utm33n"]
    make_root_group(str(tmp_path / "zones.zarr"), names)
    for name in names:
        fill(str(tmp_path / "zones.zarr" / name), replace(TALL, written=(0, 1), scenes=TALL.scenes[:2]))
    with serve(str(tmp_path / "zones.zarr")) as (address, _):
        load(started, address)
        started.run("const select = document.getElementById('zone'); select.value = '1';"
                    "select.dispatchEvent(new Event('change'))")  # fmt: skip
        wait_for(started, shows("tiles/1/0/false/declouded/"))
        assert "zone=utm33n" in started.run("location.hash")
        assert started.faults == []


# The server


def test_a_page_of_another_name_is_refused(address):
    """A site that leads its name to this machine does not read the store."""
    assert ask(address, "/store.json", Host="evil.example")[0] == 403
    assert ask(address, "/store.json", Host="localhost:1")[0] == 200
    status, headers, _ = ask(address, "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/tiles/0/8/false/declouded/0/0/0.png", "/tiles/1/0/false/declouded/0/0/0.png",
     "/tiles/0/0/true/declouded/0/0/0.png", "/tiles/0/0/false/declouded/0/9/9.png",
     "/tiles/0/0/false/declouded/99/0/0.png", "/tiles/0/0/false/else/0/0/0.png",
     "/curve/0/70/0.svg", "/curve/9/0/0.svg", "/../../etc/passwd", "/page.py", "/leaflet/LICENSE"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(address, path):
    assert ask(address, path)[0] == 404


def test_it_ends_by_ctrl_c_without_a_word_of_python(store):
    with serve(store) as (address, process):
        assert ask(address, "/")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(SLOWEST) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_cluster_ends_it_by_sigterm(store):
    with serve(store) as (_, process):
        process.terminate()
        assert process.wait(SLOWEST) == 0


def test_a_port_that_is_taken_is_named(store, address):
    port = str(urlsplit(address).port)
    call = [sys.executable, "-m", "cloudgan.cli.app", "view", store, "--port", port]
    done = subprocess.run(call, capture_output=True, text=True, timeout=SLOWEST, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"port {port} cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr


def test_whoever_listens_to_all_is_told_who_can_see_it(store):
    with serve(store, "--host", "0.0.0.0") as (address, process):
        assert ask(address.replace("0.0.0.0", "127.0.0.1"), "/", Host="my-machine:80")[0] == 200
        process.send_signal(signal.SIGINT)
        process.wait(SLOWEST)
        assert "there is no password" in process.stderr.read()


def test_a_store_in_a_bucket_is_viewed_and_a_lost_bucket_is_named(s3, started):
    import obstore

    from cloudgan.object_stores import open_object_store

    fill(s3.url("viewed.zarr"), TALL)
    with serve(s3.url("viewed.zarr")) as (address, _):
        started.resize(*WIDE)
        load(started, address)
        wait_for(started, shows("tiles/0/0/false/declouded/"))
        assert started.faults == []
        bucket = open_object_store(s3.url("viewed.zarr"))
        names = [one["path"] for batch in obstore.list(bucket, "red/") for one in batch]
        for name in names:
            if "/c/" in name:
                obstore.put(bucket, name, b"none")
        status, _, body = ask(address, "/tiles/0/1/false/declouded/0/0/0.png")
        assert status == 500
        assert b"is damaged" in body
        assert b"Traceback" not in body
