"""The manifests of deploy/kubernetes as a cluster sees them: rendered, and turned into pods."""

from __future__ import annotations

import copy
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASES = ("job", "daskjob")
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
ROLES = ("runner", "scheduler", "worker")
INSTANCE = "app.kubernetes.io/instance"

Node = dict[str, Any]


def parse(text: str) -> list[Node]:
    """The documents of a YAML stream."""
    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def kustomize(folder: Path) -> list[Node]:
    """What `kubectl kustomize` makes of a folder; without kubectl the test is skipped."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which renders the manifests, is not installed")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


@dataclass(frozen=True)
class Rendered:
    """All objects of one job."""

    objects: tuple[Node, ...]
    pods: Mapping[str, Node]
    """One of each role, as the cluster or the Dask operator makes it."""
    services: tuple[Node, ...]
    """The rendered ones and the operator's."""

    @property
    def name(self) -> str:
        """Of the Job or DaskJob."""
        (job,) = (each for each in self.objects if each["kind"] in ("Job", "DaskJob"))
        name: str = job["metadata"]["name"]
        return name

    def of_kind(self, kind: str) -> list[Node]:
        return [each for each in self.objects if each["kind"] == kind]

    def container(self, role: str) -> Node:
        (container,) = self.pods[role]["spec"]["containers"]
        return dict(container)

    def config(self, name: str) -> dict[str, str]:
        """The data of a ConfigMap, by the name that a pod gives."""
        (found,) = (each for each in self.of_kind("ConfigMap") if each["metadata"]["name"] == name)
        return dict(found["data"])

    def environment(self, role: str) -> dict[str, str]:
        """What a container's process finds in its environment, as the kubelet works it out.

        Secrets are left out: none is rendered.
        """
        container = self.container(role)
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                found |= self.config(source["configMapRef"]["name"])
        for variable in container.get("env", []):
            value = variable.get("value")
            if value is None:
                assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
                value = self.pods[role]["metadata"]["name"]
            found[variable["name"]] = value
        return found

    def command(self, role: str) -> list[str]:
        """The arguments of a container, with its variables in place."""
        environment = self.environment(role)
        return [expand(word, environment) for word in self.container(role)["args"]]


def expand(word: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`; one that is not there stays as it is, as in a cluster."""
    return re.sub(r"\$\((\w+)\)", lambda match: environment.get(match[1], match[0]), word)


@functools.cache
def render(base: str, overlays: Sequence[str] = (), suffix: str = "-north", more: str = "") -> Rendered:
    """A job as a user writes it: a base, overlays, a suffix, and further lines of his kustomization."""
    with tempfile.TemporaryDirectory() as name:
        return render_in(Path(name).resolve(), base, overlays, suffix, more)


def render_in(folder: Path, base: str, overlays: Sequence[str], suffix: str, more: str = "") -> Rendered:
    """The same, in a folder that may hold files for it."""
    home = os.path.relpath(KUBERNETES, folder)
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "namespace: cloudgan"]
    lines += [f"nameSuffix: {suffix}"] if suffix else []
    lines += ["resources:", f"  - {home}/bases/{base}"]
    lines += ["components:", *(f"  - {home}/overlays/{each}" for each in overlays)] if overlays else []
    (folder / "kustomization.yaml").write_text("\n".join([*lines, more]))
    return cluster_of(kustomize(folder))


def cluster_of(objects: Sequence[Node]) -> Rendered:
    """What a cluster makes of rendered objects."""
    services = [each for each in objects if each["kind"] == "Service"]
    pods = {}
    for each in objects:
        if each["kind"] in ("Job", "Deployment"):
            pod = copy.deepcopy(each["spec"]["template"])
            pod["metadata"]["name"] = f"{each['metadata']['name']}-x7k2p"
            pods[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = pod
        elif each["kind"] == "DaskJob":
            pods, service = operate(each)
            services.append(service)
    return Rendered(tuple(objects), pods, tuple(services))


def operate(job: Node) -> tuple[dict[str, Node], Node]:
    """The pods and the service that the Dask operator makes, by its own functions, called as there."""
    from dask_kubernetes.operator.controller import controller

    def of_group(meta: Node, spec: Node) -> tuple[Node, Node]:
        own = spec.get("metadata", {})
        return (
            meta.get("annotations", {}) | own.get("annotations", {}),
            meta.get("labels", {}) | own.get("labels", {}),
        )

    meta, spec, name = job["metadata"], copy.deepcopy(job["spec"]), job["metadata"]["name"]
    parts = spec["cluster"]["spec"]
    annotations, labels = of_group(meta, spec["cluster"])
    cluster = controller.build_cluster_spec(name, parts["worker"], parts["scheduler"], annotations, labels)
    annotations, labels = of_group(cluster["metadata"], cluster["spec"]["scheduler"])
    scheduler = controller.build_scheduler_deployment_spec(
        name, parts["scheduler"]["spec"], annotations, labels
    )
    service = controller.build_scheduler_service_spec(
        name, parts["scheduler"]["service"], annotations, labels
    )
    annotations, labels = of_group(cluster["metadata"], cluster["spec"]["worker"])
    group = controller.build_default_worker_group_spec(name, parts["worker"], annotations, labels)
    annotations, labels = of_group(group["metadata"], group["spec"]["worker"])
    worker = controller.build_worker_deployment_spec(
        group["metadata"]["name"],
        meta["namespace"],
        name,
        "0123456789",
        parts["worker"]["spec"],
        annotations,
        labels,
    )
    annotations, labels = of_group(meta, spec["job"])
    runner = controller.build_job_pod_spec(
        name, name, meta["namespace"], spec["job"]["spec"], annotations, labels
    )
    pods = {
        "runner": {key: runner[key] for key in ("metadata", "spec")},
        "scheduler": scheduler["spec"]["template"],
        "worker": worker["spec"]["template"],
    }
    return pods, service


def selects(selector: Mapping[str, str], pod: Node) -> bool:
    """Whether labels, all of them, are the pod's."""
    return selector.items() <= pod["metadata"]["labels"].items()
