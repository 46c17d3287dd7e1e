"""What a process says that it takes of its machine."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import psutil

from chaosops_ray.telemetry.machine import Throughput, gpu_memory, memory, own_memory, usage

_MIB = 1 << 20


def test_memory_is_what_the_process_has_for_itself() -> None:
    before = own_memory()
    with mmap.mmap(-1, 64 * _MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
        assert 60 * _MIB < own_memory() - before < 100 * _MIB
        uss = psutil.Process().memory_full_info().uss
        assert abs(own_memory() - uss) < 8 * _MIB


def test_memory_counts_the_processes_that_a_process_started() -> None:
    program = "import sys; taken = b'x' * (64 << 20); print('there', flush=True); sys.stdin.read()"
    own = memory()
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        assert memory() - own > 60 * _MIB
        assert memory(Path(f"/proc/{os.getpid()}")) > memory(Path(f"/proc/{child.pid}")) > 60 * _MIB
        child.communicate(b"")
    assert memory(Path(f"/proc/{child.pid}")) == 0  # it has ended


def test_who_has_no_gpu_has_no_figure_of_one() -> None:
    assert gpu_memory([]) is None
    assert usage().gpu_memory is None


def test_tokens_a_second_are_those_of_all_engines_since_the_last_time() -> None:
    throughput = Throughput()
    assert throughput.rate({"a": 100, "b": 50}, 10.0) is None
    assert throughput.rate({"a": 300, "b": 150}, 20.0) == 30.0
    # b did not answer; then it says what it wrote meanwhile; then it was replaced, and counts from zero.
    assert throughput.rate({"a": 400}, 30.0) == 10.0
    assert throughput.rate({"a": 400, "b": 250}, 40.0) == 10.0
    assert throughput.rate({"a": 400, "b": 20}, 50.0) == 2.0
