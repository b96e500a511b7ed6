"""Worker processes draw in order, say what failed, and end with the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures import workers
from pruneviz.figures.workers import results_of
from tests.support import works

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = """
import os
import signal
from pruneviz.figures.workers import results_of
from tests.support import works

if __name__ == "__main__":
    os.environ["PRUNEVIZ_TEST_COMMAND"] = str(os.getpid())
    # Tests that run in the background ignore interrupts, and so do their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with results_of([works.interrupt_the_command, works.minute, works.minute], 2) as results:
            list(results)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_results_come_in_order_from_other_processes() -> None:
    with results_of([works.long, works.brief, works.refuse, works.brief], 2) as results:
        first, second, refused, last = results
    assert os.getpid() not in {int(str(path)) for path in (*first, *second, *last)}  # type: ignore[misc]
    assert isinstance(refused, FigureError) and str(refused) == "there is nothing to draw"


@pytest.mark.parametrize(("number", "jobs"), [(1, 4), (3, 1)])
def test_one_picture_or_one_job_is_drawn_here(number: int, jobs: int) -> None:
    with results_of([works.brief] * number, jobs) as results:
        assert list(results) == [[Path(str(os.getpid()))]] * number
    with results_of([works.refuse], jobs) as results:
        assert isinstance(next(results), FigureError)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_an_unexpected_error_is_raised_without_waiting_for_the_rest(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_start_method", lambda: method)
    with pytest.raises(ZeroDivisionError), results_of([works.fail] + [works.brief] * 9, 2) as found:
        list(found)


def test_a_process_that_was_ended_is_an_error_with_a_repair() -> None:
    with results_of([works.end, works.end], 2) as results:
        for result in results:
            assert isinstance(result, FigureError) and "--jobs 1" in str(result)


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED)
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said, _ = process.communicate(timeout=60)
    assert said == "interrupted\n"
    while sessions_left(process.pid) and time.monotonic() < begin + 55:
        time.sleep(0.05)
    assert not sessions_left(process.pid)
    assert time.monotonic() < begin + 55


def sessions_left(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        if int(of) == session and state != "Z":
            found.append(int(folder.name))
    return found
