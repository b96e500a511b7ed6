"""The folder that a command and its runs on other machines share."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from pruneviz.errors import PrunevizError
from pruneviz.experiment.mailbox import Mailbox, Post


def test_posts_and_orders_go_both_ways(tmp_path: Path) -> None:
    with Mailbox(tmp_path / "out", runs=2) as mailbox:
        first, second = mailbox.box(0), mailbox.box(1)
        first.check("here")
        assert mailbox.post(0) is None and first.ordered() is None
        for post in (Post(0.5, "training", "node-7", 1), Post(1.0, "measuring", "node-7", 2)):
            first.tell(post)
            assert mailbox.post(0) == post and mailbox.post(1) is None
        mailbox.order(signal.SIGUSR1)
        assert first.ordered() == second.ordered() == signal.SIGUSR1
    assert not list((tmp_path / "out").iterdir())


def test_a_run_stops_if_its_command_is_gone(tmp_path: Path) -> None:
    with Mailbox(tmp_path, runs=1) as mailbox:
        box = mailbox.box(0)
    assert box.ordered() == signal.SIGTERM
    box.tell(Post(1.0, "measuring", "node-7", 1))  # nobody hears it
    assert not list(tmp_path.iterdir())


def test_a_machine_with_another_folder_is_told(tmp_path: Path) -> None:
    with Mailbox(tmp_path / "out", runs=1) as mailbox:
        box = mailbox.box(0)
        shutil.move(mailbox.folder, tmp_path / "elsewhere")
        told = f"{tmp_path / 'out'} on node-7 is not the folder of the command; give --out a folder"
        with pytest.raises(PrunevizError, match=told):
            box.check("node-7")


def test_long_words_are_no_harm(tmp_path: Path) -> None:
    with Mailbox(tmp_path, runs=1) as mailbox:
        mailbox.box(0).tell(Post(1.0, "🙂" * 1000, "node-7", 1))
        post = mailbox.post(0)
        assert post is not None and post.words == "🙂" * 60


def test_what_a_killed_command_left_goes_in_the_end(tmp_path: Path) -> None:
    old, recent = Mailbox(tmp_path, runs=1), Mailbox(tmp_path, runs=1)
    for file in (*old.folder.iterdir(), old.folder):
        os.utime(file, (time.time() - 61 * 86400,) * 2)
    with Mailbox(tmp_path, runs=1):
        assert recent.folder.exists() and not old.folder.exists()
