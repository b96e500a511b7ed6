from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pruneviz.errors import ReportError
from pruneviz.report.following import Followed
from pruneviz.report.server import PageServer
from tests.support.edited_specs import edit_spec

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "data" / "cifar-mini" / "vgg13-cifar100-unpruned-s0"
OTHER = ROOT / "data" / "cifar-mini-batch" / "vgg13-cifar100-unpruned-bnbatch-s0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(RUN, tmp_path / "runs" / RUN.name)
    return tmp_path / "runs"


@pytest.fixture
def server(folder: Path) -> Iterator[PageServer]:
    followed = Followed([str(folder)], ["theta_g", "theta_hg"])
    made = PageServer(followed, 0)
    followed.look()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join(10)
    assert not thread.is_alive()


def asked(server: PageServer, path: str, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    return answer(server.server_address[1], path, **headers)


def answer(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_it_serves_the_page_and_its_numbers(server: PageServer) -> None:
    page = asked(server, "/")[1]
    assert "connect-src 'self'" in page and RUN.name in page
    contents = json.loads(asked(server, "/contents")[1])
    assert [run["name"] for run in contents["facts"]["runs"]] == [RUN.name]
    assert contents["facts"]["version"].endswith(".1")
    assert len(contents["blocks"][0]) == len(contents["facts"]["runs"][0]["blocks"])


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/../spec.json", "/spec.json", f"/{RUN.name}/spec.json"]
)
def test_it_serves_nothing_else(server: PageServer, path: str) -> None:
    assert asked(server, path)[0] == 404


def test_other_methods_are_refused(server: PageServer) -> None:
    assert answer(server.server_address[1], "/contents", "POST")[0] == 501


def test_pages_of_other_sites_cannot_read_it(server: PageServer) -> None:
    assert asked(server, "/contents", Host="evil.example")[0] == 403
    assert asked(server, "/contents", Host="127.0.0.1.evil.example:80")[0] == 403
    assert asked(server, "/contents", Host="localhost:9000")[0] == 200  # through a tunnel


def test_it_listens_on_this_machine_alone(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_the_version_tells_of_a_new_run(server: PageServer, folder: Path) -> None:
    before = json.loads(asked(server, "/version")[1])
    assert before["version"].endswith(".1") and before["trouble"] == ""
    assert server.followed.look() is False
    assert json.loads(asked(server, "/version")[1]) == before
    shutil.copytree(OTHER, folder / OTHER.name)
    assert server.followed.look() is True
    now = json.loads(asked(server, "/version")[1])
    assert now == {"version": before["version"].replace(".1", ".2"), "trouble": ""}
    contents = json.loads(asked(server, "/contents")[1])
    assert len(contents["facts"]["runs"]) == 2 and contents["facts"]["version"] == now["version"]


def test_a_port_is_free_as_soon_as_its_server_ends(folder: Path) -> None:
    followed = Followed([str(folder)], ["theta_g"])
    followed.look()
    port = 0
    for _ in range(2):
        made = PageServer(followed, port)
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        port = made.server_address[1]
        assert answer(port, "/version")[0] == 200
        made.stop()
        thread.join(10)


def test_a_run_that_cannot_be_read_leaves_the_others(folder: Path) -> None:
    followed = Followed([str(folder)])
    (folder / "bad").mkdir()
    (folder / "bad" / "spec.json").write_text("{", encoding="utf-8")
    assert followed.look() is True
    assert "bad" in followed.trouble and len(followed.contents) == 1
    assert followed.look() is False  # told once
    shutil.copytree(OTHER, folder / OTHER.name)
    assert followed.look() is True
    assert "bad" in followed.trouble and len(followed.contents) == 2
    shutil.rmtree(folder / "bad")
    assert followed.look() is True and not followed.trouble


def test_runs_of_one_name_are_told_apart(folder: Path) -> None:
    followed = Followed([str(folder)])
    followed.look()
    assert [run.facts["name"] for run in followed.contents] == [RUN.name]
    shutil.copytree(RUN, folder / "again" / RUN.name)
    assert followed.look() is True
    names = [run.facts["name"] for run in followed.contents]
    assert sorted(names) == [f"again/{RUN.name}", f"runs/{RUN.name}"]
    assert followed.look() is False


def test_a_column_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ReportError, match="no column 'thetag'; did you mean 'theta_g'"):
        Followed(["x"], ["thetag"])
    with pytest.raises(ReportError, match="no column 'layer'"):
        Followed(["x"], ["layer"])


def test_waiting_for_the_first_epoch_is_told_once(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "begun"
    shutil.copytree(RUN, run)
    edit_spec(run, sealed=False)
    for file in run.glob("*.parquet"):
        file.unlink()
    (run / "parts").mkdir()
    followed = Followed([str(tmp_path / "runs")])
    assert [followed.look() for _ in range(3)] == [False, False, False]
    assert followed.version == 0 and not followed.contents


def test_a_port_in_use_is_told(server: PageServer) -> None:
    port = server.server_address[1]
    with pytest.raises(ReportError, match=rf"port {port} is in use.*--port 0"):
        PageServer(Followed(["x"]), port)


def test_unchanged_files_are_not_read_again(folder: Path) -> None:
    followed = Followed([str(folder)])
    assert followed.look() is True
    first = followed.contents
    assert followed.look() is False and followed.contents is first
    shutil.copytree(OTHER, folder / OTHER.name)
    assert followed.look() is True
    assert first[0] in followed.contents  # the run that did not change


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    followed = Followed([str(tmp_path / "later")])
    assert followed.look() is True and "no folder" in followed.trouble
    assert followed.look() is False  # told once
    shutil.copytree(RUN, tmp_path / "later" / RUN.name)
    assert followed.look() is True
    assert not followed.trouble and len(followed.contents) == 1


def test_a_damaged_file_keeps_what_was_shown(folder: Path) -> None:
    followed = Followed([str(folder)])
    followed.look()
    file = folder / RUN.name / "filters.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    first = followed.contents
    assert followed.look() is True and "filters.parquet" in followed.trouble
    assert len(followed.contents) == 1 and followed.contents[0].blocks is first[0].blocks
    file.write_bytes(whole)
    assert followed.look() is True and not followed.trouble


def test_the_command_serves_until_ctrl_c(folder: Path) -> None:
    command = [sys.executable, "-m", "pruneviz", "watch", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        port = int(address.rstrip("/").rpartition(":")[2])
        assert RUN.name in answer(port, "/")[1]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "ended" in out and "Traceback" not in err
