"""The manifests of deploy/, rendered with every overlay and turned into pods, without a cluster."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import dask.config
import distributed  # noqa: F401  (loads its defaults into dask.config)
import pytest
import typer
import yaml
from dask.utils import parse_bytes
from manifests import (
    BASES,
    INSTANCE,
    KUBERNETES,
    OVERLAYS,
    ROLES,
    ROOT,
    Node,
    Rendered,
    kustomize,
    render,
    selects,
)

import cloudgan
from cloudgan.cli.output import BAD_INPUT
from cloudgan.config import BatchConfig
from cloudgan.io.gdal import GDAL_OPTIONS

ALL = ("gpu", *(name for name in OVERLAYS if name not in ("cpu", "gpu")))  # workers are of one kind
CASES = [
    *((base, overlays) for base in BASES for overlays in [(), *((name,) for name in OVERLAYS)]),
    *((base, ALL) for base in BASES),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def two(request) -> tuple[Rendered, Rendered]:
    """Two jobs of a namespace that differ in their suffix alone."""
    base, overlays = request.param
    return render(base, overlays, "-north"), render(base, overlays, "-south")


@pytest.fixture
def job(two) -> Rendered:
    """The first of them."""
    return two[0]


def test_two_jobs_share_no_object(two):
    names = [{(each["kind"], each["metadata"]["name"]) for each in job.objects} for job in two]
    assert all(names)
    assert not names[0] & names[1]
    assert {each["metadata"]["namespace"] for job in two for each in job.objects} == {"cloudgan"}


def test_a_service_selects_the_scheduler_of_its_job_and_nothing_else(two):
    everything = [(job.name, role, pod) for job in two for role, pod in job.pods.items()]
    assert len(everything) == 6
    for job in two:
        (service,) = job.services
        found = [(name, role) for name, role, pod in everything if selects(service["spec"]["selector"], pod)]
        assert found == [(job.name, "scheduler")]
        listening = {port["name"]: port["containerPort"] for port in job.container("scheduler")["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == listening


def test_policies_cover_all_pods_of_their_job_and_let_in_no_other_job(two):
    for job, other in (two, two[::-1]):
        policies = job.of_kind("NetworkPolicy")
        for policy in policies:
            selector = policy["spec"]["podSelector"]["matchLabels"]
            assert {role for role, pod in job.pods.items() if selects(selector, pod)} == set(ROLES)
            assert not [pod for pod in other.pods.values() if selects(selector, pod)]
            for rule in policy["spec"]["ingress"]:
                for source in rule["from"]:
                    inside = source.get("podSelector", {}).get("matchLabels")
                    assert (inside == selector) is ("namespaceSelector" not in source)
        (among,) = (each for each in policies if each["metadata"]["name"] == job.name)
        assert "ports" not in among["spec"]["ingress"][0]  # workers listen on ports of chance


def test_workers_and_runner_go_to_the_scheduler_of_their_job(two):
    for job in two:
        (service,) = job.services
        protocol = job.environment("worker")["CLOUDGAN_PROTOCOL"]
        address = f"{protocol}://{service['metadata']['name']}:8786"
        assert address in job.command("worker")
        assert f"--scheduler={address}" in job.command("runner")
        assert f"--protocol={protocol}" in job.command("scheduler")
        assert "--port=8786" in job.command("scheduler")


def test_every_variable_of_a_command_is_set(job):
    for role in ROLES:
        assert not [word for word in job.command(role) if "$(" in word]


def test_budgets_and_spreads_count_the_workers_of_their_job_alone(two):
    everything = [(job.name, role, pod) for job in two for role, pod in job.pods.items()]
    for job in two:
        (budget,) = job.of_kind("PodDisruptionBudget")
        spreads = job.pods["worker"]["spec"]["topologySpreadConstraints"]
        selectors = [budget["spec"]["selector"], *(each["labelSelector"] for each in spreads)]
        for selector in selectors:
            found = [(n, role) for n, role, pod in everything if selects(selector["matchLabels"], pod)]
            assert found == [(job.name, "worker")]


def test_the_commands_of_the_pods_are_understood(job, tmp_path):
    """Each command's own parser takes the arguments, and the configuration takes the job file."""
    from cloudgan.cli import app

    for role in ("scheduler", "worker"):
        dask_, name, *words = job.command(role)
        assert (dask_, name) == ("dask", role)
        command = importlib.import_module(f"distributed.cli.dask_{role}").main
        command.make_context(name, list(words))
    command, *words = job.command("runner")
    assert command == "cloudgan-batch"
    (volume,) = (each for each in job.pods["runner"]["spec"]["volumes"] if "configMap" in each)
    (mount,) = (each for each in job.container("runner")["volumeMounts"] if each["name"] == volume["name"])
    for name, text in job.config(volume["configMap"]["name"]).items():
        (tmp_path / name).write_text(text)
    words = [word.replace(mount["mountPath"], str(tmp_path)) for word in words]
    context = typer.main.get_command(app.batch_app).make_context(command, words)
    config = BatchConfig.load(context.params["job"], {"scheduler": context.params["scheduler"]})
    assert Path(config.aoi).parent == tmp_path
    assert Path(config.aoi).exists()


def test_a_worker_has_room_for_its_units(job):
    """Memory is reserved, Dask knows how much there is, and busy threads stay below where Dask pauses."""
    for role in ROLES:
        resources = job.container(role)["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert "cpu" not in resources["limits"]  # throttling would only add latency
    given = dict(word.split("=", 1) for word in job.command("worker") if "=" in word)
    resources = job.container("worker")["resources"]
    assert given["--nthreads"] == resources["requests"]["cpu"]
    assert given["--memory-limit"] == resources["limits"]["memory"] + "B"
    file = next(text for each in job.of_kind("ConfigMap") if (text := each["data"].get("job.toml")))
    unit = parse_bytes(re.search(r'^memory = "(.+)"', file, re.M)[1])
    busy = unit * int(given["--nthreads"]) / parse_bytes(given["--memory-limit"])
    assert busy <= dask.config.get("distributed.worker.memory.pause")


def test_a_pod_has_no_privileges(job):
    for pod in (job.pods[role]["spec"] for role in ROLES):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_no_secret_is_written_down(job):
    assert not job.of_kind("Secret")
    plain = [
        name
        for role in ROLES
        for name in job.environment(role)
        if re.search(r"SECRET|TOKEN|PASS|CREDENTIAL|ACCESS_KEY", name)
    ]
    assert plain == []


def test_environment_variables_are_settings_that_dask_has(job):
    """A misspelt one would be ignored without a word."""
    for role in ROLES:
        names = [name for name in job.environment(role) if name.startswith("DASK_")]
        for name in set(names) - {"DASK_WORKER_NAME", "DASK_SCHEDULER_ADDRESS"}:
            key = name.removeprefix("DASK_").lower().replace("__", ".").replace("_", "-")
            assert dask.config.get(key, "missing") != "missing", name
        assert not set(job.environment(role)) & set(GDAL_OPTIONS)


def test_images_are_of_this_version(job):
    images = {role: job.container(role)["image"] for role in ROLES}
    assert images["runner"] == images["scheduler"] == f"cloudgan-cpu:{cloudgan.__version__}"
    assert re.fullmatch(rf"cloudgan-(cpu|gpu):{re.escape(cloudgan.__version__)}", images["worker"])


def test_gpus_go_to_workers_with_the_image_for_them(job):
    counts = {role: job.container(role)["resources"]["limits"].get("nvidia.com/gpu") for role in ROLES}
    on_gpu = job.container("worker")["image"].startswith("cloudgan-gpu")
    assert counts == {"runner": None, "scheduler": None, "worker": "1" if on_gpu else None}
    assert ("--resources=GPU=1" in job.command("worker")) is on_gpu


def test_the_monitoring_system_reads_the_ports_that_the_processes_serve(job):
    ports = {
        role: {each["name"]: each["containerPort"] for each in job.container(role)["ports"]}
        for role in ("scheduler", "worker")
    }
    assert f"--dashboard-address=:{ports['scheduler']['http-dashboard']}" in job.command("scheduler")
    assert f"--dashboard-address=:{ports['worker']['http-metrics']}" in job.command("worker")
    monitor = yaml.safe_load((KUBERNETES / "monitoring" / "pod-monitor.yaml").read_text())["spec"]
    assert {each["port"] for each in monitor["podMetricsEndpoints"]} == {"http-dashboard", "http-metrics"}
    assert INSTANCE in monitor["podTargetLabels"]
    assert all(selects(monitor["selector"]["matchLabels"], pod) for pod in job.pods.values())
    for policy in job.of_kind("NetworkPolicy"):
        if policy["metadata"]["name"].startswith("cloudgan-monitoring"):
            (rule,) = policy["spec"]["ingress"]
            assert {each["port"] for each in rule["ports"]} == {"http-dashboard", "http-metrics"}
            for role, port in (("scheduler", "8787"), ("worker", "8788")):
                assert job.pods[role]["metadata"]["annotations"]["prometheus.io/port"] == port


@pytest.mark.parametrize("suffix", ["", "-x"])
def test_a_job_without_a_suffix_is_one_too(suffix):
    for base in BASES:
        assert render(base, (), suffix).name == f"cloudgan{suffix}"


def test_bad_input_ends_the_job_at_once_and_a_drained_node_costs_no_try():
    (job,) = render("job").of_kind("Job")
    spec = job["spec"]
    ignore, fail = spec["podFailurePolicy"]["rules"]  # the first that fits decides
    assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    (container,) = spec["template"]["spec"]["containers"]
    assert fail == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [BAD_INPUT]},
    }
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # without it the policy is refused
    assert spec["backoffLimit"] > 0
    assert spec["ttlSecondsAfterFinished"] > 0


def test_there_is_never_a_second_scheduler():
    (scheduler,) = (
        each for each in render("job").of_kind("Deployment") if "scheduler" in each["metadata"]["name"]
    )
    assert scheduler["spec"]["replicas"] == 1
    assert scheduler["spec"]["strategy"] == {"type": "Recreate"}


def test_the_scheduler_serves_the_api_that_the_operator_asks():
    value = render("daskjob").environment("scheduler")["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    routes = json.loads(value)
    defaults = dask.config.get("distributed.scheduler.http.routes")
    assert routes == [*defaults, "distributed.http.scheduler.api"]
    paths = {route[0] for module in routes for route in importlib.import_module(module).routes}
    assert {"/health", "/metrics", "/api/v1/retire_workers"} <= paths


def test_the_operator_may_talk_to_the_scheduler():
    (policy,) = render("daskjob").of_kind("NetworkPolicy")
    sources = policy["spec"]["ingress"][0]["from"]
    names = [each["namespaceSelector"]["matchLabels"] for each in sources if "namespaceSelector" in each]
    assert names == [{"kubernetes.io/metadata.name": "dask-operator"}]


def test_workers_on_spot_nodes_are_gone_before_their_node_is():
    for base in BASES:
        job = render(base, ("spot",))
        assert job.pods["worker"]["spec"]["terminationGracePeriodSeconds"] < 30
        assert job.environment("scheduler")["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] == "20"
        assert not job.pods["scheduler"]["spec"].get("tolerations")


def test_all_speak_tls_where_one_does():
    for base in BASES:
        job = render(base, ("tls",))
        for role in ROLES:
            environment = job.environment(role)
            assert environment["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
            (mount,) = (each for each in job.container(role)["volumeMounts"] if each["name"] == "tls")
            files = [v for name, v in environment.items() if name.startswith("DASK_DISTRIBUTED__COMM__TLS__")]
            assert {Path(file).name for file in files} == {"ca.crt", "tls.crt", "tls.key"}
            assert {str(Path(file).parent) for file in files} == {mount["mountPath"]}


def test_the_service_account_and_the_priorities_are_those_of_the_namespace():
    shared = {(each["kind"], each["metadata"]["name"]) for each in kustomize(KUBERNETES / "namespace")}
    for base in BASES:
        job = render(base, ("identity",))
        for role in ROLES:
            pod = job.pods[role]["spec"]
            assert ("PriorityClass", pod["priorityClassName"]) in shared
            account = pod.get("serviceAccountName")
            assert account is None if role == "scheduler" else ("ServiceAccount", account) in shared


def test_the_example_is_a_job_and_pins_its_images():
    images = [each["newTag"] for each in example()["images"]]
    assert images == [f"{cloudgan.__version__}-{extra}" for extra in ("cpu", "gpu")]
    objects = kustomize(KUBERNETES / "example")
    (job,) = (each for each in objects if each["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example/cloudgan:{images[0]}"
    named = re.findall(
        r"^  (?:# )?- \.\./overlays/(\w+)", (KUBERNETES / "example/kustomization.yaml").read_text(), re.M
    )
    assert {*named, "gpu"} == set(OVERLAYS)  # cpu or gpu, on one line


def example() -> Node:
    return dict(yaml.safe_load((KUBERNETES / "example" / "kustomization.yaml").read_text()))


def test_the_documents_name_objects_that_the_example_makes():
    objects = kustomize(KUBERNETES / "example")
    made = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in objects}
    made |= {"daskjob/cloudgan-north", "daskworkergroup/cloudgan-north-default"}  # of the other base
    for page in ("README.md", "RUNBOOK.md"):
        text = (ROOT / "deploy" / page).read_text()
        assert set(re.findall(r"\b(?:job|deployment|service|dask\w+)/cloudgan[\w-]*", text)) <= made


def test_deadlines_follow_from_the_plan_of_each_job():
    """The bases have none: whatever they said would cut a large job, or wait a day for a small one."""
    for base in BASES:
        assert "activeDeadlineSeconds" not in yaml.safe_dump_all(render(base).objects)
        patches = yaml.safe_dump({"patches": example()["patches"]})
        assert "activeDeadlineSeconds" in yaml.safe_dump_all(render(base, (), "-north", patches).objects)


def test_a_digest_goes_before_a_tag():
    digest = "sha256:" + "0" * 64
    images = yaml.safe_dump({"images": [{"name": "cloudgan-cpu", "newName": "reg/c", "digest": digest}]})
    for base in BASES:
        job = render(base, (), "-north", images)
        assert {job.container(role)["image"] for role in ROLES} == {f"reg/c@{digest}"}


def everything_rendered() -> list[Node]:
    """All objects of all cases, and the pods that an operator makes of its own kind."""
    found = [*kustomize(KUBERNETES / "namespace"), *kustomize(KUBERNETES / "example")]
    for base, overlays in CASES:
        job = render(base, overlays)
        found += [each for each in job.objects if each["kind"] != "DaskJob"]
        for pod in job.pods.values():
            metadata = pod["metadata"] | {"namespace": "cloudgan"}
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]})
    return found


def test_kubernetes_knows_every_field():
    """Strictly, for the two newest versions whose schemas are there."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    from kubernetes_validate.utils import all_versions, major_minor

    versions = [major_minor(version) for version in all_versions()][-2:]
    for each, version in itertools.product(everything_rendered(), versions):
        assert validator.validate(each, version, strict=True) == version


# What Checkov asks for and is not done, with the reason.
NOT_DONE = {
    "CKV_K8S_11": "a CPU limit throttles, and adds latency",
    "CKV_K8S_14": "the example pins digests; a tag of a version stands where nobody has built the image yet",
    "CKV_K8S_15": "an image of a version does not change, so it need not be pulled again",
    "CKV_K8S_35": "GDAL and the object stores read their keys from the environment",
    "CKV_K8S_40": "user 1000 reaches nothing of a node: no path of the host is mounted",
    "CKV_K8S_43": "as CKV_K8S_14",
    "CKV_K8S_8": "a runner serves nothing that a probe could ask",
    "CKV_K8S_9": "a runner and a worker are no servers of a service; the scheduler has its probe",
}


@pytest.mark.timeout(600)
def test_checkov_finds_nothing_that_is_not_meant(tmp_path):
    checkov = shutil.which("checkov")
    if checkov is None:
        pytest.skip("checkov is not installed: uv tool install checkov")
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(everything_rendered()))
    words = [checkov, "--framework", "kubernetes", "--file", tmp_path / "all.yaml", "--compact", "--quiet"]
    done = subprocess.run([*map(str, words), "--output", "json"], capture_output=True, text=True, check=False)
    failed = json.loads(done.stdout)["results"]["failed_checks"]
    assert {each["check_id"] for each in failed} <= set(NOT_DONE)
