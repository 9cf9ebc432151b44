"""A real STAC API on loopback: stac-fastapi-pgstac on PostgreSQL with PostGIS.

PostgreSQL is Debian's; the API runs in an environment of its own (`make test` fills it from
`tests/integration/stac-api.txt`), because its dependencies are not cloudgan's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENVIRONMENT = Path(__file__).parents[1] / ".tools" / "stac-api" / "bin"
"""Where `uvicorn` and `pypgstac` are."""
_USER = "postgres"  # as whom PostgreSQL runs where the tests are root, which it refuses to be


def missing() -> str | None:
    """What is not installed here; None where all is."""
    if _postgresql() is None:
        return "PostgreSQL with PostGIS is not installed (Debian: postgresql-15 postgresql-15-postgis-3)"
    if not (ENVIRONMENT / "uvicorn").exists():
        return f"no STAC API in {ENVIRONMENT}: make test installs it"
    return None


def _postgresql() -> Path | None:
    """The folder of the newest server's programs that has PostGIS beside it."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[-3])
    share = Path("/usr/share/postgresql")
    found = [
        path.parent for path in versions if (share / path.parts[-3] / "extension/postgis.control").exists()
    ]
    return found[-1] if found else None


@contextmanager
def database() -> Iterator[dict[str, str]]:
    """A PostgreSQL of our own, of an ordinary user, until the block ends.

    Yields:
        The environment variables by which clients find it.
    """
    programs = _postgresql()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="cloudgan-postgres-"))
    become = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
    password = secrets.token_urlsafe(16)
    (folder / "password").write_text(password)
    if become:
        shutil.chown(folder, _USER)
        shutil.chown(folder / "password", _USER)

    def call(program: str, *arguments: str) -> None:
        words = [*become, str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    port = _free_port()
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        access = ("-U", "pgstac_owner", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
        call("initdb", *access, "-E", "UTF8", "--locale=C", "--no-sync")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield {
                "PGHOST": "127.0.0.1",
                "PGPORT": str(port),
                "PGUSER": "pgstac_owner",
                "PGPASSWORD": password,
                "PGDATABASE": "postgres",
            }
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def stac_api(access: Mapping[str, str]) -> Iterator[str]:
    """The API on a database, until the block ends; yields its address."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    call = [ENVIRONMENT / "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory"]
    call += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(call, env=os.environ | dict(access), stdout=log, stderr=log)
        try:
            _wait_for(f"{url}/", process)
            yield url
        except RuntimeError:
            log.seek(0)
            raise RuntimeError(log.read().decode(errors="replace")[-2000:]) from None
        finally:
            process.terminate()
            process.wait(timeout=30)


def load(
    access: Mapping[str, str], collection: Mapping[str, Any], items: Iterable[Mapping[str, Any]]
) -> None:
    """Make the tables, and enter a collection and its items."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "collections.json").write_text(json.dumps(collection))
        (folder / "items.json").write_text("\n".join(json.dumps(item) for item in items))
        for arguments in (
            ("migrate",),
            ("load", "collections", "collections.json", "--method", "insert"),
            ("load", "items", "items.json", "--method", "insert"),
        ):
            subprocess.run(
                [ENVIRONMENT / "pypgstac", *arguments],
                env=os.environ | dict(access),
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the STAC API did not start")
