"""Two processes of a test that compute together over gloo."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import distributed

PROCESSES = 2


def meet(process: int, folder: Path) -> None:
    """Join the others; to be called in each process before anything is computed."""
    how = {"init_method": f"file://{folder}/meeting", "rank": process, "world_size": PROCESSES}
    distributed.init_process_group("gloo", **how)


def run_processes(work: Callable[[int, Path], None], folder: Path) -> None:
    """Let processes do `work(number, folder)` of a test's module, and wait for them; each has to end well.

    They are forked from one that has imported everything: imports are what takes long.
    """
    if torch.cuda.is_available():
        pytest.skip("two processes of a test meet on the CPU, whose bits they promise; GPUs are visible")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    processes = [context.Process(target=work, args=(i, folder), daemon=True) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
