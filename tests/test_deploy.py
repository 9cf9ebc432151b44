"""The image and the documents of deploy/, and the fields of its manifests.

A custom resource is pruned, not refused: the API server drops a field that the schema does not know, and
a typo becomes a default. So every field is looked up in the schemas of the installed dask-kubernetes.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.metadata
import itertools
import re
import shlex
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import dask.config
import distributed  # noqa: F401  (loads its defaults into dask.config)
import pytest
import typer
from manifests import BASES, KUBERNETES, OVERLAYS, ROOT, Node, parse, render

import cloudgan
from cloudgan.io.gdal import GDAL_OPTIONS, missing_options

CLUSTER_PAGES = [ROOT / "docs" / "how-to" / "clusters.md"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
UNDERSTOOD = {  # what `faults` checks, and below it what needs no check
    *("type", "properties", "required", "items", "additionalProperties", "nullable"),
    *("description", "default", "format"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
}


@functools.cache
def custom_schemas() -> dict[str, Node]:
    """The schemas of the Dask operator's objects by kind, read without importing the package."""
    files = importlib.metadata.files("dask-kubernetes") or []
    crds = [parse(Path(str(file.locate())).read_text())[0] for file in files if file.parent.name == "crds"]
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


CASES = [(base, ()) for base in BASES] + [(base, (overlay,)) for base in BASES for overlay in OVERLAYS]


@pytest.fixture
def job() -> Node:
    """The DaskJob as it is applied."""
    (job,) = render("daskjob").of_kind("DaskJob")
    return copy.deepcopy(job)


@pytest.mark.parametrize(("base", "overlays"), CASES)
def test_a_manifest_says_only_what_its_schema_knows(base: str, overlays: tuple[str, ...]) -> None:
    for document in render(base, overlays).objects:
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
def test_a_typo_is_caught(job: Node, path: tuple[str | int, ...], value: object, fault: str) -> None:
    inner = job["spec"]
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert len(found := faults_of(job)) == 1
    assert fault in found[0]


def test_a_missing_field_is_caught(job: Node) -> None:
    del job["spec"]["cluster"]["spec"]["scheduler"]["service"]
    assert faults_of(job) == ["DaskJob.spec.cluster.spec.scheduler lacks service"]


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


def test_no_key_is_written_down() -> None:
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    for path in files:
        secret = r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:]+:[^/\s$]+@"
        assert not re.search(secret, path.read_text()), path
    assert not re.search(r"^(ARG|ENV)?\s*\w*(SECRET|TOKEN|PASSWORD|ACCESS_KEY)\w*=", DOCKERFILE, re.MULTILINE)


def batch_commands() -> list[list[str]]:
    """Every call of cloudgan-batch that the documents of deploy/ show, as its arguments."""

    def is_argument(word: str) -> bool:
        return word not in "|>&;"

    calls = []
    for page in [*(ROOT / "deploy").glob("*.md"), *CLUSTER_PAGES]:
        blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(), re.DOTALL)
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        for line in lines:
            if "cloudgan-batch" in line:
                words = list(itertools.takewhile(is_argument, shlex.split(line, comments=True)))
                calls.append(words[words.index("cloudgan-batch") + 1 :])
    return calls


def test_cloudgan_batch_has_every_option_that_deploy_uses() -> None:
    """Parsed by the command itself, so that a missing value or a wrong type is found too."""
    from cloudgan.cli import app

    command = typer.main.get_command(app.batch_app)
    assert batch_commands()
    for arguments in batch_commands():
        command.make_context("cloudgan-batch", list(arguments))


def test_the_command_of_the_image_is_installed_by_the_wheel() -> None:
    assert re.search(r'^CMD \["cloudgan", "--help"\]$', DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["tini", "--"\]$', DOCKERFILE, re.MULTILINE)
    assert {"cloudgan", "cloudgan-batch"} <= set(PROJECT["scripts"])


def stages() -> dict[str, str]:
    """The stages of the image by name, in their order."""
    parts = re.split(r"^FROM (\S+) AS (\w[\w-]*)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[2::3], parts[3::3], strict=True))


def test_the_image_has_a_target_for_each_kind_of_worker() -> None:
    assert [*stages()][-2:] == ["gpu", "cpu"]  # without --target, the last one is built
    for extra in ("cpu", "gpu"):
        assert f"COPY --from=build-{extra} " in stages()[extra]
        built = stages()[f"build-{extra}"]
        assert set(re.findall(r"--extra (\w+)", built)) == {extra}
        assert built.count("${EXTRAS}") == 3  # dependencies, the package, and the list of both
        assert "--format cyclonedx1.5 --output-file /opt/cloudgan/sbom.cdx.json" in built
        assert f"--target {extra} -t {PROJECT['name']}:{cloudgan.__version__}-{extra} ." in DOCKERFILE
    assert f'version="{cloudgan.__version__}"' in DOCKERFILE


def image_environment() -> dict[str, str]:
    """What the image sets, by name."""
    return dict(re.findall(r"^(?:ENV|\s) *(\w+)=(\S+?)(?: \\)?$", DOCKERFILE, re.MULTILINE))


def test_the_workers_of_the_image_read_with_the_settings_of_the_code() -> None:
    """What the image sets goes before the code: a GDAL variable in it would override the table."""
    environment = image_environment()
    assert environment  # the pattern finds what is there
    assert missing_options(environment) == GDAL_OPTIONS
    assert not [name for name in environment if name.startswith(("GDAL_", "CPL_", "VSI_", "AWS_"))]


def test_all_roles_have_the_variables_that_dask_gives_its_workers() -> None:
    given = {
        name: str(value) for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items()
    }
    assert given.items() <= image_environment().items()


def test_failed_opens_are_asked_again_of_every_kind_of_server() -> None:
    assert int(GDAL_OPTIONS["GDAL_HTTP_MAX_RETRY"]) > 0
    assert float(GDAL_OPTIONS["GDAL_HTTP_RETRY_DELAY"]) > 0
    not_cached = GDAL_OPTIONS["CPL_VSIL_CURL_NON_CACHED"].split(":")
    assert set(not_cached) == {"/vsicurl/http", "/vsis3/", "/vsigs/", "/vsiaz/"}


def test_the_image_runs_without_root() -> None:
    assert image_environment()["ORT_DISABLE_TELEMETRY"] == "1"
    final = "".join(stages()[name] for name in ("runtime", "gpu", "cpu"))
    users = set(re.findall(r"runAsUser: (\d+)", (KUBERNETES / "bases" / "job" / "workers.yaml").read_text()))
    assert [f"{user}:{user}" for user in users] == re.findall(r"^USER (.+)$", final, re.MULTILINE)
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


def compose() -> Node:
    """The services of docker compose, by name."""
    services: Node = parse((ROOT / "deploy" / "compose" / "compose.yaml").read_text())[0]["services"]
    return services


def test_the_services_of_compose_have_commands_that_are_understood(tmp_path: Path) -> None:
    from cloudgan.cli import app
    from cloudgan.config import BatchConfig

    for role in ("scheduler", "worker"):
        dask_, name, *words = compose()[role]["command"]
        assert (dask_, name) == ("dask", role)
        importlib.import_module(f"distributed.cli.dask_{role}").main.make_context(name, words)
    command, *words = compose()["runner"]["command"]
    (mount,) = compose()["runner"]["volumes"]
    source, target, _ = mount.split(":")
    words = [word.replace(target, str(ROOT / "deploy" / "compose" / source)) for word in words]
    context = typer.main.get_command(app.batch_app).make_context(command, words)
    config = BatchConfig.load(context.params["job"], {"scheduler": context.params["scheduler"]})
    endpoint = compose()["runner"]["environment"]["AWS_ENDPOINT_URL"]
    assert {urlsplit(address).hostname for address in (endpoint, config.scheduler)} <= set(compose())
    assert {urlsplit(address).scheme for address in (config.aoi, config.stac, config.out)} == {"s3"}


def test_compose_runs_the_image_of_this_version_with_few_rights() -> None:
    for name, service in compose().items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        if name != "s3":
            assert service["image"] == f"cloudgan:{cloudgan.__version__}-cpu"
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
        assert set(service.get("depends_on", [])) <= set(compose())
