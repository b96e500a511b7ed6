"""What a process may still take: limits of the process, its control groups and the machine."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from pruneviz.log import memory as module
from pruneviz.log.memory import free_memory, most_memory

MB = 1024**2


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_kept_by_allocator", lambda: 0)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return root


def of_machine(root: Path, megabytes: int) -> Path:
    return write(root, {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {megabytes * 1024} kB"})


def group(folder: str, limit: object, used: int, file: int = 0) -> dict[str, object]:
    """The files of a group of the second version."""
    return {
        f"sys/fs/cgroup/{folder}/memory.max": limit,
        f"sys/fs/cgroup/{folder}/memory.current": used * MB,
        f"sys/fs/cgroup/{folder}/memory.stat": f"anon 7\ninactive_file {file * MB}",
    }


def test_nothing_is_known_on_another_system(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None


def test_the_machine_itself_is_a_limit(tmp_path: Path) -> None:
    assert free_memory(of_machine(tmp_path, 300)) == 300 * MB


@pytest.mark.parametrize(
    ("own", "outer", "free"),
    [
        (("max", 50), ("max", 80), 900),
        ((400 * MB, 100), ("max", 800), 300),
        ((400 * MB, 100), (500 * MB, 450), 50),  # a neighbour in the same group
        ((400 * MB, 450), ("max", 800), 0),
    ],
)
def test_every_group_of_the_second_version_up_to_the_outermost_counts(
    tmp_path: Path, own: tuple[object, int], outer: tuple[object, int], free: int
) -> None:
    root = write(of_machine(tmp_path, 900), {"proc/self/cgroup": "0::/batch.slice/job_1"})
    write(root, group("batch.slice/job_1", *own) | group("batch.slice", *outer))
    assert free_memory(root) == free * MB


def test_cached_files_of_a_group_are_free_and_its_soft_limit_counts(tmp_path: Path) -> None:
    root = write(of_machine(tmp_path, 900), {"proc/self/cgroup": "0::/"})
    write(root, group("", 400 * MB, 390, file=200))
    assert free_memory(root) == 210 * MB
    write(root, {"sys/fs/cgroup/memory.high": 250 * MB})
    assert free_memory(root) == 60 * MB


@pytest.mark.parametrize("path", ["/docker/abc", "/../../docker/abc", "/"])
def test_a_container_of_the_first_version_counts_by_its_outermost_group(
    tmp_path: Path, path: str
) -> None:
    lines = f"4:cpu,cpuacct:/other\n3:memory:{path}\n1:name=systemd:/x\n0::/"
    root = write(of_machine(tmp_path, 900), {"proc/self/cgroup": lines})
    folder = "sys/fs/cgroup/memory"
    write(
        root,
        {
            f"{folder}/memory.limit_in_bytes": 400 * MB,
            f"{folder}/memory.usage_in_bytes": 300 * MB,
            f"{folder}/memory.stat": f"total_inactive_file {20 * MB}",
        },
    )
    assert free_memory(root) == 120 * MB
    write(root, {f"{folder}/memory.limit_in_bytes": 9223372036854771712})  # none
    assert free_memory(root) == 900 * MB


@pytest.mark.parametrize(
    ("kind", "free"), [(resource.RLIMIT_AS, 60), (resource.RLIMIT_DATA, 160), (None, 900)]
)
def test_limits_of_the_process_count_with_what_it_has_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int | None, free: int
) -> None:
    status = f"Name:\tpython\nVmSize:\t{140 * 1024} kB\nVmData:\t{40 * 1024} kB\nThreads:\t1"
    root = write(of_machine(tmp_path, 900), {"proc/self/status": status})

    def limit(asked: int) -> tuple[int, int]:
        return (200 * MB if asked == kind else resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    monkeypatch.setattr(resource, "getrlimit", limit)
    assert free_memory(root) == free * MB
    monkeypatch.setattr(module, "_kept_by_allocator", lambda: 5 * MB)
    assert free_memory(root) == (free + 5 if kind else free) * MB


@pytest.mark.parametrize("text", ["", "nonsense", "0:/x", "\n\n", "a:b:c:d"])
def test_files_of_another_form_limit_nothing(tmp_path: Path, text: str) -> None:
    root = write(of_machine(tmp_path, 900), {"proc/self/cgroup": text, "proc/self/status": text})
    assert free_memory(root) == 900 * MB


def test_this_machine_tells_what_is_free() -> None:
    free, most = free_memory(), most_memory()
    assert free is None or most is None or MB < free <= most < 2**50
    assert most is None or most > 256 * MB


def test_the_least_limit_is_the_most_that_can_be_taken(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 7 kB"})
    assert most_memory(root) == 9000 * 1024
    assert most_memory(write(root, {"proc/self/cgroup": "0::/a"} | group("a", 5 * MB, 4))) == 5 * MB
    assert most_memory(tmp_path / "elsewhere") is None
