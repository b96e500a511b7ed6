"""Signals that stop a command: one line, the exit code of the signal, and no stack trace."""

from __future__ import annotations

import random
import signal
import time

import pytest

from pruneviz.console.stop_signals import Stopped, ended_at_once, exit_code, reason
from tests.support.stopped_commands import Ended, started, stopped

GO_ON = "Finished work is kept; repeat the command to go on.\n"

# Prints a line once signals are handled, and imports slowly.
SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pruneviz.cli":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
from pruneviz.__main__ import main
main()
"""


def check(ended: Ended, number: signal.Signals) -> None:
    why = "Interrupted" if number == signal.SIGINT else f"Ended by {number.name}"
    assert ended.stderr == f"{why}. {GO_ON}"
    assert ended.code == exit_code(number)
    assert not ended.left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_while_modules_are_imported_ends_the_command_at_once(
    number: signal.Signals,
) -> None:
    process = started("-c", SLOW_IMPORT)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    check(stopped(process, number), number)


def test_exit_codes_are_those_of_shells() -> None:
    codes = [exit_code(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert codes == [130, 143, 129]
    assert reason(signal.SIGUSR1) == "Ended by SIGUSR1"
    assert isinstance(Stopped(signal.SIGTERM, "words"), KeyboardInterrupt)


def test_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    with ended_at_once():
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.soak
def test_signals_at_random_instants_of_the_imports_of_a_command() -> None:
    """From the moment that Python has started, until torch is loaded."""
    draw = random.Random(0)
    for trial in range(100):
        process = started("-m", "pruneviz", "record", "--figures", "13", "--list")
        time.sleep(draw.uniform(0.3, 3.0))
        number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
        twice = [number] * draw.choice([1, 2])
        ended = stopped(process, *twice, between=draw.choice([0.0, 0.001, 0.01]))
        if ended.code == -number and not ended.stderr:
            continue  # Python itself was not ready yet: the system ended it, without a word
        assert "Traceback" not in ended.stderr, (trial, ended)
        assert ended.code in (0, exit_code(number)), (trial, ended)
        assert not ended.left, (trial, ended)
