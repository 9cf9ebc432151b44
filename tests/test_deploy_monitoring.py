"""The alerts and the dashboard of deploy/: evaluated by Prometheus' own tool, on metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from manifests import KUBERNETES, ROOT

MONITORING = KUBERNETES / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
OF_DASK = {"dask_scheduler_clients", "dask_scheduler_workers", "dask_scheduler_workers_removed_total"}


def of_job(metric: str, **labels: str) -> str:
    """A series of the job that is watched."""
    labels |= {"namespace": "cloudgan", "app_kubernetes_io_instance": "cloudgan-north"}
    return metric + "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


FEW = of_job("dask_scheduler_workers", state="idle")
RUNNERS = of_job("dask_scheduler_clients")
DONE = of_job("cloudgan_units_total", pod="w1", outcome="done")
FAILED = of_job("cloudgan_units_total", pod="w1", outcome="failed")
LATE = of_job("cloudgan_units_total", pod="w2", outcome="done")


def expressions() -> list[str]:
    """Of alerts and dashboard, the dashboard's variables set."""
    found = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    found += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [expression.replace("$namespace", ".*").replace("$job", ".*") for expression in found]


@pytest.fixture
def promtool() -> str:
    """Prometheus' tool, of Debian's package `prometheus`."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return found


def test_both_forms_of_the_alerts_are_the_same():
    assert yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text())["spec"] == ALERTS


def test_every_alert_leads_to_its_place_in_the_runbook():
    titles = re.findall(r"^#+ (.*)$", (ROOT / "deploy" / "RUNBOOK.md").read_text(), re.M)
    for rule in (rule for group in ALERTS["groups"] for rule in group["rules"]):
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page.endswith("deploy/RUNBOOK.md")
        assert anchor == rule["alert"].lower()
        assert rule["alert"] in titles


def test_expressions_name_metrics_that_are_served():
    named = {name for text in expressions() for name in re.findall(r"\b(?:cloudgan|dask)_\w+", text)}
    from cloudgan.distributed import metrics

    counters = [each for each in vars(metrics).values() if isinstance(each, metrics.Counter)]
    assert named == {f"{each.describe()[0].name}_total" for each in counters} | OF_DASK


def test_panels_have_numbers_and_places_of_their_own():
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_prometheus_understands_every_expression(promtool, tmp_path):
    """Those of the dashboard too, as recording rules."""
    rules = [{"record": f"r{at}", "expr": text} for at, text in enumerate(expressions())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    for each in (file, MONITORING / "alerts.yaml"):
        done = subprocess.run([promtool, "check", "rules", each], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def fire(promtool: str, folder: Path, series: dict[str, str], at: str, expected: dict[str, float]) -> None:
    """Assert which alerts fire after some minutes of a series, one value a minute."""
    (folder / "alerts.yaml").write_text((MONITORING / "alerts.yaml").read_text())
    rules = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
    labels = {"namespace": "cloudgan", "app_kubernetes_io_instance": "cloudgan-north"}
    cases = [
        {
            "eval_time": at,
            "alertname": name,
            "exp_alerts": [{"exp_labels": labels | rule["labels"]}] if name in expected else [],
        }
        for name, rule in rules.items()
    ]
    for case in cases:
        for alert in case["exp_alerts"]:
            alert["exp_annotations"] = annotations(rules[case["alertname"]], expected[case["alertname"]])
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": cases}
    body = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(body))
    words = [promtool, "test", "rules", folder / "test.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def annotations(rule: dict, value: float) -> dict[str, str]:
    """A rule's texts, with its variables in place."""
    places = {
        "{{ $labels.app_kubernetes_io_instance }}": "cloudgan-north",
        "{{ $value }}": f"{value:g}",
        "{{ $value | humanizePercentage }}": f"{100 * value:.4g}%",
    }
    texts = dict(rule["annotations"])
    for name in texts:
        for place, text in places.items():
            texts[name] = texts[name].replace(place, text)
    return texts


@pytest.mark.parametrize(
    ("series", "at", "expected"),
    [
        pytest.param({FEW: "4x90", RUNNERS: "1x90", DONE: "0+1x90"}, "90m", {}, id="it runs"),
        pytest.param(
            {FEW: "4x90", RUNNERS: "1x90", DONE: "0+1x20 20x70"},
            "60m",
            {"CloudganStalled": 1},
            id="nothing done for half an hour",
        ),
        pytest.param({FEW: "4x90", RUNNERS: "1x90", DONE: "0+1x20 20x70"}, "45m", {}, id="not yet so long"),
        pytest.param({FEW: "0x20", RUNNERS: "1x20"}, "20m", {}, id="workers are still to come"),
        pytest.param({FEW: "0x40", RUNNERS: "1x40"}, "40m", {"CloudganStalled": 1}, id="workers never came"),
        pytest.param(
            {FEW: "4x90", RUNNERS: "1x90", DONE: "3x20 _x70", LATE: "_x40 1x50"},
            "60m",
            {},
            id="a new worker has done its first",
        ),
        pytest.param(
            {FEW: "4x90", RUNNERS: "1x90", DONE: "0+1x90", FAILED: "0x30 2x60"},
            "90m",
            {"CloudganUnitsFailing": 2 / 92},
            id="two of a hundred fail",
        ),
        pytest.param(
            {FEW: "4x90", RUNNERS: "1x90", DONE: "200+1x90", FAILED: "2x90"}, "90m", {}, id="few fail"
        ),
        pytest.param(
            {FEW: "4x60", RUNNERS: "1x20 0x40", DONE: "0+1x20 20x40"},
            "40m",
            {"CloudganWithoutRunner": 4},
            id="the run is over and the workers stay",
        ),
        pytest.param(
            {FEW: "4x60", RUNNERS: "1x20 0x5 1x35", DONE: "0+1x60"}, "60m", {}, id="the runner came back"
        ),
    ],
)
def test_alerts_fire_when_they_should_and_only_then(promtool, tmp_path, series, at, expected):
    fire(promtool, tmp_path, series, at, expected)
