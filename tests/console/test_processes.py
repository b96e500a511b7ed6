"""Worker processes: how many, and their end."""

from __future__ import annotations

import os

from pruneviz.console.processes import cores, end_with_parent


def test_there_are_cores_and_no_more_than_the_machine_has() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_a_process_that_no_worker_started_goes_on() -> None:
    end_with_parent()
