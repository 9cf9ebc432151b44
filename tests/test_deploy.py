"""The image and the manifests of deploy/: known fields, real options, safe pods.

A custom resource is pruned, not refused: the API server drops a field that the schema does not know, and
a typo becomes a default. So every field is looked up in the schemas of the installed dask-kubernetes.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.metadata
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import dask.config
import distributed  # noqa: F401  (loads its defaults into dask.config)
import pytest
import typer
import yaml
from dask.utils import parse_bytes

import cloudgan
from cloudgan.io.gdal import GDAL_OPTIONS, missing_options

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
UNDERSTOOD = {  # what `faults` checks, and below it what needs no check
    *("type", "properties", "required", "items", "additionalProperties", "nullable"),
    *("description", "default", "format"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
}

Node = dict[str, Any]


def read(path: Path) -> list[Node]:
    return list(yaml.load_all(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


@functools.cache
def custom_schemas() -> dict[str, Node]:
    """The schemas of the Dask operator's objects by kind, read without importing the package."""
    files = importlib.metadata.files("dask-kubernetes") or []
    crds = [read(Path(str(file.locate())))[0] for file in files if file.parent.name == "crds"]
    return {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds
    }


def builtin_schema(kind: str) -> Node:
    """The schema of one of Kubernetes' own types, from the models of its Python client."""
    if kind in ("str", "bool", "int"):
        return {"type": {"str": "string", "bool": "boolean", "int": "integer"}[kind]}
    if match := re.fullmatch(r"List\[(.+)\]", kind):
        return {"type": "array", "items": builtin_schema(match[1])}
    if match := re.fullmatch(r"Dict\[str, (.+)\]", kind):
        return {"type": "object", "additionalProperties": builtin_schema(match[1])}
    model = getattr(importlib.import_module("kubernetes.client"), kind, None)
    if model is None:
        return {}  # bytes, datetime, object: none of these is used here
    fields = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
    return {"type": "object", "properties": {name: builtin_schema(of) for name, of in fields.items()}}


def faults(value: object, schema: Node, where: str = "") -> list[str]:
    """What the schema does not allow in `value`, unknown fields included, as one sentence each."""
    if value is None and schema.get("nullable"):
        return []
    wanted = TYPES[schema["type"]] if "type" in schema else object
    if not isinstance(value, wanted) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return [f"{where} must be a {schema['type']}, got {value!r}"]
    found = []
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        found += [f"{where} lacks {name}" for name in schema.get("required", []) if name not in value]
        for name, child in value.items():
            if (inner := known.get(name, others)) is None:
                found.append(f"{where}.{name} is unknown")
            else:
                found += faults(child, inner, f"{where}.{name}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found += faults(child, schema.get("items", {}), f"{where}[{index}]")
    return found


def faults_of(document: Node) -> list[str]:
    """What is wrong with a whole manifest."""
    envelope = ("apiVersion", "kind", "metadata")
    found = [f"{name} is missing" for name in envelope if name not in document]
    found += faults(document["metadata"], builtin_schema("V1ObjectMeta"), "metadata")
    body = {name: value for name, value in document.items() if name not in envelope}
    schema = custom_schemas().get(document["kind"]) or builtin_schema("V1" + document["kind"])
    return found + faults(body, schema, document["kind"])


def pods(document: Node) -> dict[str, Node]:
    """The pod specs that a manifest holds, by role."""
    spec = document.get("spec", {})
    if document["kind"] == "DaskJob":
        cluster = spec["cluster"]["spec"]
        return {
            "job": spec["job"]["spec"],
            "scheduler": cluster["scheduler"]["spec"],
            "worker": cluster["worker"]["spec"],
        }
    return {"gpu worker": spec["worker"]["spec"]} if document["kind"] == "DaskWorkerGroup" else {}


DOCUMENTS = [pytest.param(document, id=document["kind"]) for path in MANIFESTS for document in read(path)]
JOB = next(document.values[0] for document in DOCUMENTS if document.id == "DaskJob")
PODS = [
    pytest.param(pod, id=role) for document in DOCUMENTS for role, pod in pods(document.values[0]).items()
]
CONTAINERS = [pytest.param(container, id=pod.id) for pod in PODS for container in pod.values[0]["containers"]]
GPU_WORKER = next(container.values[0] for container in CONTAINERS if container.id == "gpu worker")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_manifest_says_only_what_its_schema_knows(document: Node) -> None:
    assert faults_of(document) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("cluster", "spec", "worker", "replica"), 4, "worker.replica is unknown"),
        (("cluster", "spec", "worker", "replicas"), "4", "worker.replicas must be a integer"),
        (("job", "spec", "containers", 0, "imagePullPolice"), "Always", "[0].imagePullPolice is unknown"),
        (("job", "spec", "containers", 0, "resources", "limits", "cpu"), 4, "limits.cpu must be a string"),
        (("cluster", "spec", "scheduler", "service"), None, "scheduler.service must be a object"),
    ],
)
def test_a_typo_is_caught(path: tuple[str | int, ...], value: object, fault: str) -> None:
    document = copy.deepcopy(JOB)
    inner = document["spec"]
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert len(found := faults_of(document)) == 1
    assert fault in found[0]


def test_a_missing_field_is_caught() -> None:
    document = copy.deepcopy(JOB)
    del document["spec"]["cluster"]["spec"]["scheduler"]["service"]
    assert faults_of(document) == ["DaskJob.spec.cluster.spec.scheduler lacks service"]


def test_the_schemas_hold_nothing_that_the_check_passes_over() -> None:
    def words(schema: Node) -> set[str]:
        inner = [
            *schema.get("properties", {}).values(),
            schema.get("items"),
            schema.get("additionalProperties"),
        ]
        return set(schema).union(*(words(child) for child in inner if isinstance(child, dict)))

    assert set(custom_schemas()) == {"DaskAutoscaler", "DaskCluster", "DaskJob", "DaskWorkerGroup"}
    for schema in custom_schemas().values():
        assert words(schema) <= UNDERSTOOD


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_has_no_privileges(pod: Node) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("container", CONTAINERS)
def test_memory_is_reserved_and_dask_knows_how_much_there_is(container: Node) -> None:
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests["memory"] == limits["memory"]
    assert "cpu" not in limits  # throttling would only add latency
    if container["args"][:2] == ["dask", "worker"]:
        given = dict(argument.split("=", 1) for argument in container["args"][2:] if "=" in argument)
        assert given["--nthreads"] == requests["cpu"]
        assert given["--memory-limit"] == limits["memory"] + "B"
        job = pods(JOB)["job"]["containers"][0]
        unit = next(word.split("=")[1] for word in job["args"] if word.startswith("--memory="))
        busy = parse_bytes(unit) * int(given["--nthreads"]) / parse_bytes(given["--memory-limit"])
        assert busy <= dask.config.get("distributed.worker.memory.pause")
        # The operator removes the deployments whose workers the scheduler retired, by this name.
        assert given["--name"] == "$(DASK_WORKER_NAME)"


def test_gpus_go_to_the_gpu_workers_alone() -> None:
    for parameter in CONTAINERS:
        resources = parameter.values[0]["resources"]
        held = [resources[side].get("nvidia.com/gpu") for side in ("requests", "limits")]
        assert held == (["1", "1"] if parameter.id == "gpu worker" else [None, None])
    assert "--resources=GPU=1" in GPU_WORKER["args"]
    group = next(document.values[0] for document in DOCUMENTS if document.id == "DaskWorkerGroup")
    assert group["spec"]["cluster"] == JOB["metadata"]["name"]


def test_images_are_of_this_version() -> None:
    images = {parameter.id: parameter.values[0]["image"] for parameter in CONTAINERS}
    cpu, gpu = (f"{PROJECT['name']}:{cloudgan.__version__}-{extra}" for extra in ("cpu", "gpu"))
    assert images == {"job": cpu, "scheduler": cpu, "worker": cpu, "gpu worker": gpu}
    assert f"-t {cpu} ." in DOCKERFILE
    assert f"-t {gpu} ." in DOCKERFILE


def test_the_scheduler_serves_the_api_that_the_operator_asks() -> None:
    scheduler = pods(JOB)["scheduler"]["containers"][0]
    name = "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"
    value = next(variable["value"] for variable in scheduler["env"] if variable["name"] == name)
    routes = dask.config.collect_env({name: value})["distributed"]["scheduler"]["http"]["routes"]
    defaults = dask.config.get("distributed.scheduler.http.routes")
    assert routes == [*defaults, "distributed.http.scheduler.api"]
    paths = {route[0] for module in routes for route in importlib.import_module(module).routes}
    assert {"/health", "/api/v1/retire_workers"} <= paths


def test_the_service_finds_the_scheduler_by_the_names_that_the_operator_uses() -> None:
    cluster = JOB["spec"]["cluster"]["spec"]["scheduler"]
    (container,) = cluster["spec"]["containers"]
    assert cluster["service"]["selector"] == {
        "dask.org/cluster-name": JOB["metadata"]["name"],
        "dask.org/component": "scheduler",
    }
    listening = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert listening == {"tcp-comm": 8786, "http-dashboard": 8787}
    assert {port["name"]: port["port"] for port in cluster["service"]["ports"]} == listening
    assert all(port["targetPort"] == port["name"] for port in cluster["service"]["ports"])
    assert container["args"][2:] == ["--port=8786", "--dashboard-address=:8787"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http-dashboard"}


def test_no_secret_is_written_down() -> None:
    for path in (ROOT / "deploy").rglob("*.yaml"):
        assert all(document["kind"] != "Secret" for document in read(path))
        assert not re.search(
            r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s]+:[^/\s]+@", path.read_text()
        )
    plain = [
        variable["name"]
        for parameter in CONTAINERS
        for variable in parameter.values[0].get("env", [])
        if re.search(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL", variable["name"]) and "value" in variable
    ]
    assert plain == []
    assert not re.search(r"^(ARG|ENV)?\s*\w*(SECRET|TOKEN|PASSWORD|ACCESS_KEY)\w*=", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("container", [container for container in CONTAINERS if container.id != "job"])
def test_dask_knows_the_options_of_its_commands(container: Node) -> None:
    assert container["args"][0] == "dask"
    command = importlib.import_module(f"distributed.cli.dask_{container['args'][1]}").main
    assert unknown_options(container["args"][2:], command) == []


def unknown_options(arguments: list[str], command: Any) -> list[str]:
    """The options among `arguments`, written --name or --name=value, that the command does not take so."""
    options = [option for option in command.params if option.param_type_name == "option"]
    flags = {name: option.is_flag for option in options for name in (*option.opts, *option.secondary_opts)}
    return [
        argument for argument in arguments if flags.get(argument.split("=")[0]) is not ("=" not in argument)
    ]


def batch_commands() -> list[list[str]]:
    """Every call of cloudgan-batch under deploy/, as its arguments."""
    (job,) = pods(JOB)["job"]["containers"]
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "deploy" / "README.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    calls = [job["args"], *(shlex.split(line, comments=True) for line in lines if "cloudgan-batch" in line)]
    return [call[call.index("cloudgan-batch") + 1 :] for call in calls]


def test_cloudgan_batch_has_every_option_that_deploy_uses() -> None:
    from cloudgan.cli import app

    command = typer.main.get_command(app.batch_app)
    needed = {option.opts[0] for option in command.params if option.required}
    for arguments in batch_commands():
        assert unknown_options(arguments, command) == []
        assert needed <= {argument.split("=")[0] for argument in arguments}


def test_the_commands_of_the_image_are_installed_by_the_wheel() -> None:
    assert re.search(r'^CMD \["cloudgan", "--help"\]$', DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["tini", "--"\]$', DOCKERFILE, re.MULTILINE)
    assert pods(JOB)["job"]["containers"][0]["args"][0] in PROJECT["scripts"]
    assert "cloudgan" in PROJECT["scripts"]


def image_environment() -> dict[str, str]:
    """What the image sets, by name."""
    return dict(re.findall(r"^(?:ENV|\s) *(\w+)=(\S+?)(?: \\)?$", DOCKERFILE, re.MULTILINE))


def test_the_workers_of_the_image_read_with_the_settings_of_the_code() -> None:
    """What the image sets goes before the code: a GDAL variable in it would override the table."""
    environment = image_environment()
    assert environment  # the pattern finds what is there
    assert missing_options(environment) == GDAL_OPTIONS
    assert not [name for name in environment if name.startswith(("GDAL_", "CPL_", "VSI_", "AWS_"))]
    for container in CONTAINERS:
        named = {variable["name"] for variable in container.values[0].get("env", [])}
        assert not named & set(GDAL_OPTIONS)


def test_failed_opens_are_asked_again_of_every_kind_of_server() -> None:
    assert int(GDAL_OPTIONS["GDAL_HTTP_MAX_RETRY"]) > 0
    assert float(GDAL_OPTIONS["GDAL_HTTP_RETRY_DELAY"]) > 0
    not_cached = GDAL_OPTIONS["CPL_VSIL_CURL_NON_CACHED"].split(":")
    assert set(not_cached) == {"/vsicurl/http", "/vsis3/", "/vsigs/", "/vsiaz/"}


def test_the_image_runs_without_root() -> None:
    settings = image_environment()
    assert settings["MALLOC_TRIM_THRESHOLD_"] == "65536"
    assert settings["ORT_DISABLE_TELEMETRY"] == "1"
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = pods(JOB)["job"]["securityContext"]["runAsUser"]
    assert re.findall(r"^USER (.+)$", final, re.MULTILINE) == [f"{user}:{user}"]
    assert not re.search(r"\b(gcc|g\+\+|build-essential|uv sync|pip install)\b", final)


def test_the_image_takes_extras_that_exist() -> None:
    extras = set(re.findall(r"--extra (\w+)", DOCKERFILE)) | {"cpu", "gpu"}
    assert extras <= set(PROJECT["optional-dependencies"])
    python = re.search(r"^ARG BASE=python:(\d+\.\d+)-slim", DOCKERFILE, re.MULTILINE)
    assert python is not None
    assert set(re.findall(r"/python(\d+\.\d+)/site-packages/nvidia", DOCKERFILE)) == {python[1]}


def test_the_lock_holds_the_cuda_libraries_of_the_gpu_image() -> None:
    locked = {package["name"] for package in LOCK}
    assert {"nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cudnn-cu13"} <= locked, (
        'the image has no CUDA but the wheels of the extra: gpu = ["onnxruntime-gpu[cuda,cudnn]>=1.20"]'
    )
