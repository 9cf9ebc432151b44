"""The report in a real browser: it works by keyboard, offline, in the dark, on a phone, and for everybody."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser
from test_products import TALL, fill
from test_store import scene

from cloudgan.io.store.store import make_root_group
from cloudgan.report.page import write_report

pytestmark = pytest.mark.integration
AXE = Path(__file__).parents[2] / ".tools" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
WIDE, PHONE = (1200, 900), (360, 740)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A page of thirty dates, with a score and a failed unit."""
    folder = tmp_path_factory.mktemp("page")
    days = list(range(1, 31))
    plan = replace(TALL, scenes=tuple(map(scene, days)), written=tuple(range(len(days))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        fill(str(folder / "out.zarr"), plan)
    row = {"psnr": 30.0, "mae": 0.01, "ssim": 0.9, "sam": 2.0}
    run = {
        "failed": [{"unit": 3, "dates": ["2020-04-03", "2020-04-08"], "reason": "a long reason, " * 30}],
        "worker_seconds": {"read": 5.0, "generate": 20.0},
        "seconds": 30,
        "score": {"model": "mean 1.0", "methods": {"mean": row, "linear": row}, "verdict": "mean is closer"},
    }
    (folder / "out.zarr" / "spatial_ref" / "cloudgan" / "report.json").write_text(json.dumps(run))
    return write_report(str(folder / "out.zarr"), command="cloudgan-batch --aoi field.geojson " * 5)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started, path) -> Browser:
    """The page, just loaded on a wide screen in the light."""
    started.resize(*WIDE)
    started.set_scheme("light")
    started.open(path)
    return started


def wait_for(browser: Browser, script: str) -> None:
    end = time.monotonic() + 10
    while not browser.run(script):
        assert time.monotonic() < end, script
        time.sleep(0.02)


def test_it_loads_without_a_fault_and_asks_for_nothing(browser, path):
    assert browser.faults == []
    assert browser.requests == [path.resolve().as_uri()]
    assert browser.run("document.images.length") == 3
    assert browser.run("document.getElementById('after').naturalWidth") == TALL.grid.shape[1]


def test_the_divider_moves_by_keyboard(browser):
    at = "getComputedStyle(document.getElementById('before')).clipPath"
    before = browser.run(at)
    browser.run("document.getElementById('slider').focus()")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.run("document.getElementById('slider').value") == "48"
    assert browser.run(at) != before
    browser.press("End")
    assert browser.run("document.getElementById('stage').style.getPropertyValue('--at')") == "100%"
    assert browser.faults == []


def test_tab_leads_to_all_controls_and_enter_presses_them(browser):
    seen = []
    for _ in range(45):
        browser.press("Tab")
        script = "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
        seen.append(browser.run(script))
    assert {"composite", "layer", "slider", "next", "SUMMARY"} <= set(seen)
    assert {"earlier", "later"} & set(seen)
    day = browser.run("document.getElementById('day').textContent")
    browser.run("document.getElementById('next').focus()")
    browser.press("Enter")
    assert browser.run("document.getElementById('day').textContent") != day


def test_layers_switch_by_keyboard(browser):
    browser.run("document.querySelector('input[name=layer]').focus()")
    for name in ("provenance", "source", "uncertainty"):
        browser.press("ArrowRight")
        assert browser.run("document.querySelector('input[name=layer]:checked').value") == name
        wait_for(browser, "document.getElementById('layer').naturalWidth > 0")
        assert browser.run("document.getElementById('legend').textContent.length") > 10
        assert name in browser.run("document.getElementById('layer').alt")
    browser.press("ArrowRight")
    assert browser.run("document.getElementById('layer').hidden") is True


def test_what_was_not_observed_is_blank_on_the_left(browser):
    """The mask of the hatch has the picture's provenance."""
    mask = browser.run("document.getElementById('blank').style.maskImage")
    assert mask.startswith('url("data:image/png;base64,')
    uri = "JSON.parse(document.getElementById('pictures-0-' + [...document.querySelectorAll('#list button')]"
    uri += ".find((one) => one.getAttribute('aria-current')).dataset.date).textContent).provenance"
    assert browser.run(uri) in mask


def test_dates_page(browser):
    assert browser.run("document.querySelectorAll('#list button').length") in (24, 6)
    browser.run("showing = document.getElementById('page').textContent")
    click = "document.getElementById({}.disabled ? 'later' : 'earlier').click()"
    browser.run(click.format("document.getElementById('earlier')"))
    assert browser.run("document.getElementById('page').textContent !== showing")
    browser.run("document.querySelectorAll('#list button')[2].click()")
    chosen = browser.run("document.querySelectorAll('#list button')[2].textContent")
    assert browser.run("document.getElementById('day').textContent") == chosen
    assert browser.run("document.querySelector('#list [aria-current]').textContent") == chosen


def test_it_is_light_or_dark_as_the_reader_prefers(browser):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(colour)
    browser.set_scheme("dark")
    dark = browser.run(colour)
    brightness = [sum(map(int, one[4:-1].split(","))) for one in (light, dark)]
    assert brightness[0] > 600
    assert brightness[1] < 150


def test_it_fits_a_phone(browser, path):
    browser.resize(*PHONE)
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= PHONE[0]
    small = (
        "[...document.querySelectorAll('button')].filter((one) => one.offsetParent && one.offsetHeight < 40)"
    )
    assert browser.run(f"{small}.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_everybody_can_use_it(browser, path, scheme, size):
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make .tools/axe/.done")
    browser.resize(*size)
    browser.set_scheme(scheme)
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.run("document.querySelector('input[value=source]').click()")
    browser.run(AXE.read_text() + "; 0")
    found = browser.run("axe.run().then((all) => JSON.stringify(all.violations.map("
                        "(one) => [one.id, one.nodes.map((node) => node.html.slice(0, 200))])))")  # fmt: skip
    assert json.loads(found) == []


def test_zones_are_chosen(started, tmp_path):
    names = ["utm32n", "utm33n"]
    make_root_group(str(tmp_path / "zones.zarr"), names)
    for name in names:
        fill(str(tmp_path / "zones.zarr" / name), replace(TALL, written=(0, 1), scenes=TALL.scenes[:2]))
    started.open(write_report(str(tmp_path / "zones.zarr")))
    started.run("const select = document.getElementById('zone'); select.value = '1';"
                "select.dispatchEvent(new Event('change'))")  # fmt: skip
    assert started.run("document.querySelector('.zone:not([hidden])').dataset.zone") == "1"
    assert started.faults == []
