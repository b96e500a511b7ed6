"""Recordings in a local S3 server: to the bit those of a disk, whatever the server does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log import uploads
from pruneviz.log.run_directory import RunLog
from pruneviz.log.spec_file import read_spec
from pruneviz.log.spooled_runs import prepare, upload_runs, waiting_runs
from pruneviz.log.uploads import Uploads
from pruneviz.stores import background
from pruneviz.stores.listing import runs_below
from pruneviz.stores.spool import spool_folder, spool_root
from pruneviz.stores.urls import file_system
from tests.support.s3_server import BUCKET, FAULTS, S3Server, environment, s3_server
from tests.support.stores import add_epoch, new_log

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

pytestmark = pytest.mark.soak

EPOCHS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(autouse=True)
def clients(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(background, "_LONGEST", 1.0)
    file_system(f"s3://{BUCKET}").clear_instance_cache()  # of another address
    yield
    server.faults()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"s3://{BUCKET}/{tmp_path.name}/run"


def record(log: RunLog, running: Uploads, epochs: range) -> None:
    for epoch in epochs:
        add_epoch(log, epoch)
        running.changed()


def assert_is_local(url: str, folder: Path) -> None:
    """The run in the store is the one that a disk would hold."""
    local = new_log(folder / "run")
    for epoch in range(EPOCHS):
        add_epoch(local, epoch)
    local.seal()
    found, expected = pv.load(url), pv.load(folder / "run")
    for table in ("epochs", "filters", "rounds", "correlations"):
        pd.testing.assert_frame_equal(found.read(table), expected.read(table))
    assert pv.faults(url).empty


@pytest.mark.parametrize("kind", [*FAULTS, "all"])
def test_a_recording_is_whole_after_any_fault(
    server: S3Server, url: str, kind: str, tmp_path: Path
) -> None:
    log = new_log(spool_folder(url))
    running = Uploads(log.path)
    running.begin()
    kinds = FAULTS if kind == "all" else (kind,)
    server.faults(0.3, *kinds, seed=7)
    record(log, running, range(EPOCHS))
    log.seal()
    failed = False
    try:
        running.finish(20.0)
    except LogError as error:
        failed = True
        assert f"go on with: pruneviz upload {url}" in str(error)
    server.faults()
    assert [error for _, error in upload_runs([log.path])] == [None] * failed
    assert_is_local(url, tmp_path)
    assert not waiting_runs(spool_root())


def test_a_server_that_is_down_or_hangs_stops_no_epoch(
    server: S3Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest of all calls is far below what any request may take."""
    log = new_log(spool_folder(url))
    running = Uploads(log.path)
    running.begin()
    server.pause()
    try:
        longest = 0.0
        for epoch in range(EPOCHS):
            add_epoch(log, epoch)
            before = time.monotonic()
            running.changed()
            longest = max(longest, time.monotonic() - before)
        log.seal()
        before = time.monotonic()
        with pytest.raises(LogError, match="not all of it is uploaded yet"):
            running.finish(2.0)
        waited = time.monotonic() - before
        monkeypatch.setattr("pruneviz.log.spooled_runs.START_SECONDS", 2.0)
        with pytest.raises(LogError, match="did not answer within 2 seconds"):
            prepare(spool_folder(f"{url}2"), resume=True)
    finally:
        server.go_on()
    assert longest < 1.0 and 2.0 <= waited < 30.0
    assert [error for _, error in upload_runs([log.path])] == [None]
    assert_is_local(url, tmp_path)


def test_refused_connections_are_told_and_gone_on_from(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "START_SECONDS", 1.0)
    log = new_log(spool_folder(url))
    running = Uploads(log.path)
    address = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    running.begin()
    record(log, running, range(EPOCHS))
    log.seal()
    deadline = time.monotonic() + 120
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(caplog.messages) == 1 and "The recording goes on in" in caplog.messages[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    running.finish()  # connections are opened anew, as with renewed credentials
    assert_is_local(url, tmp_path)


_LOOP = """
import sys
from pathlib import Path
from pruneviz.log.run_directory import RunLog
from pruneviz.log.spec_file import is_sealed, read_spec
from pruneviz.log.spooled_runs import prepare
from pruneviz.log.uploads import Uploads
from pruneviz.stores.spool import spool_folder
from tests.support.stores import add_epoch, new_log

path, epochs = spool_folder(sys.argv[1]), int(sys.argv[2])
prepare(path, resume=True)
begun, running = (path / "spec.json").exists(), Uploads(path)
print("begun", flush=True)
if not begun or not is_sealed(path):  # it may have been killed when all was recorded
    log = RunLog.resume(path, read_spec(path)) if begun else new_log(path)
    running.begin()
    for epoch in range(max(log.epochs, default=-1) + 1, epochs):
        add_epoch(log, epoch)
        running.changed()
    log.seal()
running.finish()
"""


@pytest.mark.parametrize("keeps_spool", [True, False])
def test_kills_at_any_moment_lose_nothing_that_was_uploaded(
    server: S3Server, url: str, keeps_spool: bool, tmp_path: Path
) -> None:
    server.faults(0.05, "503", "cut", seed=11)
    command = [sys.executable, "-c", _LOOP, url, str(EPOCHS)]
    for number in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            timer = threading.Timer(0.3 * number + 0.05, process.send_signal, [signal.SIGKILL])
            timer.start()
            code = process.wait()
            timer.cancel()
        if code == 0:
            break
        if not keeps_spool:
            shutil.rmtree(tmp_path / "spool")
    server.faults()
    if number == 9:
        subprocess.run(command, check=True)
    assert_is_local(url, tmp_path)


def test_ten_thousand_runs_are_listed_in_few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is one of this process, which can be filled without requests."""
    from aiobotocore.endpoint import AioEndpoint
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    store = s3_backends["123456789012"]["aws"]
    store.create_bucket("many", "us-east-1")
    for number in range(10_000):
        store.put_object("many", f"sets/run{number:05d}/spec.json", b"{}")
    requests: list[object] = []
    real = AioEndpoint.make_request

    def counted(self: AioEndpoint, model: object, request: object) -> object:
        requests.append(model)
        return real(self, model, request)

    monkeypatch.setattr(AioEndpoint, "make_request", counted)
    file_system("s3://many").clear_instance_cache()
    try:
        runs, _ = runs_below("s3://many/sets/*", ("spec.json",))
    finally:
        server.stop()
        file_system("s3://many").clear_instance_cache()
    assert len(runs) == 10_000
    assert len(requests) <= 11  # 1,000 names each


def test_two_recorders_elsewhere_are_noticed_by_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(spool_folder(url))
    running = Uploads(log.path)
    running.begin()
    record(log, running, range(2))
    running.leave()
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "elsewhere"))
    other = spool_folder(url)
    prepare(other, resume=True)
    second = RunLog.resume(other, read_spec(other))
    going_on = Uploads(other)
    going_on.begin()
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
    with pytest.raises(LogError, match=r"was recorded by process .*, too; stop one"):
        Uploads(log.path).finish()
    record(second, going_on, range(2, EPOCHS))
    second.seal()
    going_on.finish()
    assert_is_local(url, tmp_path)
