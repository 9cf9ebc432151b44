"""The arguments and the environment of the pods of deploy/, as processes of this machine.

What a cluster gives and a machine has not is replaced, and nothing else: names of services, ports that may be
taken here, and the places where volumes are mounted.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from buckets import answers, free_port
from distributed.security import Security
from manifests import ROOT, Rendered, render_in
from stores import read_store

PROGRAMS = Path(sys.executable).parent
KEPT = {"PATH": f"{PROGRAMS}:/usr/bin:/bin", "HOME": "/tmp"}
MERGED = yaml.safe_dump(
    {
        "configMapGenerator": [
            {"name": "cloudgan-job", "behavior": "merge", "files": ["job.toml", "field.geojson"]}
        ]
    }
)


def image_environment() -> dict[str, str]:
    """What the image sets beside the path."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    runtime = text.partition(" AS runtime\n")[2].partition("\nFROM ")[0]
    return {name: value for name, value in re.findall(r"(\w+)=([\w.]+)", runtime) if name.isupper()}


def write_job(folder: Path, demo, network: Path, out: Path) -> None:
    """The two files that a user edits."""
    (folder / "field.geojson").write_text(demo.aoi.read_text())
    job = {"aoi": "field.geojson", "dates": "2020-05-05/2020-05-20", "stac": str(demo.catalog)}
    job |= {"out": str(out), "model": str(network), "memory": "700MB", "context_days": 5}
    lines = (f"{name} = {value!r}" for name, value in job.items())
    (folder / "job.toml").write_text("\n".join(lines))


class Machine:
    """Stands in for the cluster of one job."""

    def __init__(self, job: Rendered, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.ports = {port: str(free_port()) for port in ("8786", "8787", "8788")}
        (self.service,) = job.services
        self.places: dict[str, str] = {}

    def mount(self, path: str, files: Mapping[str, str]) -> None:
        """What a volume holds at a path of the pods."""
        home = self.folder / path.strip("/").replace("/", "-")
        home.mkdir()
        for name, text in files.items():
            (home / name).write_text(text)
        self.places[path] = str(home)

    def translate(self, word: str) -> str:
        """A word of a pod as it is here."""
        for path, home in self.places.items():
            word = re.sub(rf"{re.escape(path)}(?=/|$)", home, word)
        for port, ours in self.ports.items():
            word = re.sub(rf"(?<=[:=]){port}$", ours, word)
        return word.replace(f"//{self.service['metadata']['name']}:", "//127.0.0.1:")

    @contextmanager
    def start(self, role: str) -> Iterator[subprocess.Popen[str]]:
        """The process of a role, which gets a SIGTERM in the end, as a pod does."""
        words = [self.translate(word) for word in self.job.command(role)]
        environment = {name: self.translate(value) for name, value in self.job.environment(role).items()}
        environment = KEPT | image_environment() | environment
        with (
            (self.folder / f"{role}.log").open("w") as log,
            subprocess.Popen(
                [PROGRAMS / words[0], *words[1:]],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                text=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()

    def log(self) -> str:
        """The end of what each has said."""
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in self.folder.glob("*.log"))


def start_machine(folder: Path, base: str, overlays: tuple[str, ...]) -> Machine:
    """Render the folder's job, and give its pods what their volumes hold."""
    job = render_in(folder, base, overlays, "-north", MERGED)
    machine = Machine(job, folder)
    for role in ("runner", "scheduler", "worker"):
        volumes = {volume["name"]: volume for volume in job.pods[role]["spec"]["volumes"]}
        for mount in job.container(role)["volumeMounts"]:
            path, volume = mount["mountPath"], volumes[mount["name"]]
            if path in machine.places:
                continue
            if "configMap" in volume:
                machine.mount(path, job.config(volume["configMap"]["name"]))
            elif "secret" in volume:
                security = Security.temporary()
                certificate, key = security.tls_ca_file, security.tls_scheduler_key
                machine.mount(path, {"ca.crt": certificate, "tls.crt": certificate, "tls.key": key})
    return machine


@pytest.fixture(scope="module")
def written_here(demo, network, tmp_path_factory) -> dict[str, object]:
    """What a run on this machine alone writes, by the same job file."""
    folder = tmp_path_factory.mktemp("here")
    write_job(folder, demo, network, folder / "out.zarr")
    words = [PROGRAMS / "cloudgan-batch", "--job", folder / "job.toml", "--workers", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return read_store(folder / "out.zarr")


@pytest.mark.parametrize(
    ("base", "overlays"), [("job", ("cpu", "monitoring", "spot")), ("daskjob", ("tls",))]
)
def test_a_job_of_the_manifests_writes_what_a_run_here_writes(
    base, overlays, written_here, demo, network, tmp_path
):
    write_job(tmp_path, demo, network, tmp_path / "out.zarr")
    machine = start_machine(tmp_path, base, overlays)
    health = {
        role: f"http://127.0.0.1:{machine.ports[port]}/health"
        for role, port in (("scheduler", "8787"), ("worker", "8788"))
    }
    with ExitStack() as stack:
        worker = stack.enter_context(machine.start("worker"))  # the order of pods is chance: it waits
        runner = stack.enter_context(machine.start("runner"))
        scheduler = stack.enter_context(machine.start("scheduler"))
        deadline = time.monotonic() + 150
        seen = dict.fromkeys(health, False)
        while runner.poll() is None and time.monotonic() < deadline:
            seen = {role: seen[role] or answers(url) for role, url in health.items()}
            time.sleep(0.2)
        assert runner.poll() == 0, machine.log()
        assert all(seen.values()), seen  # the probes of the pods ask the same
        assert worker.poll() is None
        assert scheduler.poll() is None
    assert [process.returncode for process in (worker, scheduler)] == [0, 0], machine.log()
    assert read_store(tmp_path / "out.zarr") == written_here
    if "tls" in overlays:
        assert "tls://127.0.0.1" in (tmp_path / "scheduler.log").read_text()
