"""A real PACS for tests: Debian's Orthanc with its DICOMweb plugin, on loopback, in a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATIENCE = 30.0  # seconds until a server that says nothing is given up


@dataclass(frozen=True)
class Server:
    """A running Orthanc. ``get`` and ``store`` use its own REST interface, not DICOMweb, so that tests can check one by the other."""

    url: str
    dicom_port: int

    @property
    def dicomweb_url(self) -> str:
        """Where DICOMweb lives, e.g. ``http://127.0.0.1:40123/dicom-web``."""
        return f"{self.url}/dicom-web"

    def store(self, files: Iterable[Path]) -> int:
        """Upload DICOM files through the REST interface; how many there were."""
        count = 0
        for path in files:
            request = urllib.request.Request(f"{self.url}/instances", data=Path(path).read_bytes(), method="POST")
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                count += json.loads(answer.read())["Status"] in ("Success", "AlreadyStored")
        return count

    def get(self, path: str) -> Any:
        """JSON from the REST interface, e.g. ``server.get("/instances")``."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def file(self, instance: str) -> bytes:
        """The DICOM file of one instance, as Orthanc keeps it."""
        with urllib.request.urlopen(f"{self.url}/instances/{instance}/file", timeout=PATIENCE) as answer:
            return bytes(answer.read())


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in held]
    for s in held:
        s.close()
    return ports


def _start(program: str, folder: Path, users: dict[str, str]) -> tuple[subprocess.Popen[bytes], Server]:
    http, dicom = _free_ports(2)
    (folder / "store").mkdir(parents=True, exist_ok=True)
    config = {
        "Name": "TEST",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "RemoteAccessAllowed": False,  # only loopback is answered
        "AuthenticationEnabled": bool(users),
        "RegisteredUsers": users,
        "HttpThreadsCount": 4,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "Ssl": False},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config, indent=1))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(path)], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    return process, Server(f"http://127.0.0.1:{http}", dicom)


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/dicom-web/studies", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            time.sleep(0.05)
    return False


@contextmanager
def orthanc(folder: Path, *, users: dict[str, str] | None = None) -> Iterator[Server]:
    """A fresh, empty Orthanc that lives as long as the block; skips the test by name where Orthanc is not installed.

    ``users`` (name to password) turns on basic authentication. The folder keeps configuration, log and storage.
    """
    program = shutil.which("Orthanc") or ("/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else None)
    if program is None or not PLUGIN.exists():
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    for attempt in range(3):  # another program may take a free port first
        process, server = _start(program, Path(folder) / f"orthanc{attempt}", users or {})
        try:
            if _answers(process, server.url):
                yield server
                return
        finally:
            process.kill()  # nothing of it is kept, and a polite stop takes 3 s
            process.wait()
    raise RuntimeError(f"Orthanc did not start: see {folder}")
