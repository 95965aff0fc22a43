"""`soundflow bench serve`: what a real server process holds, with clients in processes of their own."""

import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import torch

from envs.benchmark import process_mib
from envs.clock import CHUNK_S
from envs.errors import ServerError
from policies.engine.benchmark import REPLY_TOKENS, bench_model, bench_tokenizer
from policies.policy_folder import write_policy
from policies.server.serve import KEY_VARIABLE
from trainers.server_bystanders import Bystanders, hear_alone, watch
from trainers.server_load import Load, LoadResult, run_load
from trainers.server_offenders import Rounds, run_rounds

LATE_MS = 1e3 * CHUNK_S  # a decision later than that is a stall
_SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
_REFUSALS = 10
_TURNOVER_S = 60.0  # after which sessions of the soak leave
_STOP_S = 30.0  # that the server may take to stop, or to answer
_MOST_BYSTANDERS, _MOST_ROUNDS_AT_ONCE = 4, 8
_OFFENDERS = 4  # of a round; one that has just gone may still hold its slot
_SETTINGS = {"max_output_tokens": REPLY_TOKENS}


@dataclass(frozen=True)
class ServerBench:
    """What to measure.

    Attributes:
        policy: A policy folder; None: `compact` with random weights.
        sessions: Of the load, and the server's slots.
        minutes: Of the load.
        soak_minutes: Of the soak; 0: none.
        soak_sessions: Of the soak.
        rounds: Of offences; 0: none.
        slow_s: How long one that does not read waits to be closed.
    """

    policy: Path | None = None
    sessions: int = 64
    minutes: float = 5.0
    soak_minutes: float = 2.0
    soak_sessions: int = 8
    rounds: int = 50
    slow_s: float = Rounds.slow_s

    def __post_init__(self) -> None:
        if self.soak_minutes and 2 * self.soak_sessions > self.sessions:
            raise ServerError(
                f"--soak-sessions {self.soak_sessions} need twice as many slots, since half of them leave and come"
                f" again: expected at most {self.sessions // 2} with --sessions {self.sessions}"
            )
        least = 1 + 2 * _OFFENDERS
        if self.rounds and self.sessions < least:
            raise ServerError(f"--sessions {self.sessions}: rounds of offences need {least} slots; or say --rounds 0")

    @property
    def bystanders(self) -> Bystanders:
        """Who looks on while others break the rules."""
        count = min(max(self.sessions // 8, 1), _MOST_BYSTANDERS)
        return Bystanders(count, _SETTINGS | {"soundflow": {"temperature": 1.0}}, LATE_MS)

    @property
    def offences(self) -> Rounds:
        """What others do."""
        at_once = (self.sessions - self.bystanders.count) // _OFFENDERS - 1
        return Rounds(self.rounds, min(at_once, _MOST_ROUNDS_AT_ONCE), self.slow_s)


def bench_serve(bench: ServerBench) -> dict[str, Any]:
    """Start a server, measure it, and stop it.

    Returns:
        Plain JSON types; `docs/server.md` says what each means.

    Raises:
        ServerError: when the server does not start, with its reason.
    """
    numbers: dict[str, Any] = {"cpus": os.cpu_count(), "load_average_before": os.getloadavg()[0]}
    with TemporaryDirectory() as work:
        policy = bench.policy
        if policy is None:
            policy = Path(work) / "compact"
            _write_policy(policy)
        clients = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with _served(policy, bench.sessions, Path(work) / "log") as server, clients:
            numbers |= _under_load(bench, server, clients)
            if bench.soak_minutes:
                numbers |= _soaked(bench, server, clients)
            if bench.rounds:
                numbers |= _offended(bench, server, clients)
            numbers |= {"connections_left": server.connections_left(), "server_failures": server.failures()}
    return {"policy": "compact, random weights" if bench.policy is None else str(bench.policy), **numbers}


def _under_load(bench: ServerBench, server: "_Server", clients: ProcessPoolExecutor) -> dict[str, Any]:
    load = Load(bench.sessions, 60 * bench.minutes, _SETTINGS, refusals=_REFUSALS)
    before = server.cpu()
    result = clients.submit(run_load, server.address, load).result()
    cpu = {name: round((s - before[name]) / result.seconds, 3) for name, s in server.cpu().items()}
    server.connections_left()
    return {"sessions": bench.sessions, "minutes": bench.minutes, **load_numbers(result), **cpu}


def load_numbers(result: LoadResult) -> dict[str, Any]:
    """Return what a load brought as plain JSON types; see `docs/server.md`."""
    decided = [one for heard in result.heard for one in heard.decided]
    on_time = [one.latency_ms for one in decided if one.latency_ms is not None]
    sent = sum(heard.chunks_sent for heard in result.heard)
    missed = sent - len(on_time)
    of_server = [one.server_ms for one in decided if one.server_ms is not None]
    return {
        "seconds": round(result.seconds, 1),
        "clock": "decision_*: the client's, from a chunk's last sample sent to its response.listen or .speak received;"
        " server_decision_*: the server's own decision_latency_ms",
        **{f"decision_{name}_ms": quantile_ms(on_time, share, missed) for name, share in _SHARES.items()},
        **{f"server_decision_{name}_ms": quantile_ms(of_server, share) for name, share in _SHARES.items()},
        "chunks_sent": sent,
        "chunks_missed": missed,
        "chunks_late": sum(latency > LATE_MS for latency in on_time),
        "late_ms": LATE_MS,
        "replies": sum(len(heard.texts) for heard in result.heard),
        "send_lag_p99_ms": quantile_ms([lag for heard in result.heard for lag in heard.lag_ms], 0.99),
        "troubles": dict(Counter(trouble for heard in result.heard for trouble in heard.troubles)),
        "refusal_ms": quantile_ms(result.refusal_ms, 1.0),
        "refusals": len(result.refusal_ms),
        "not_refused": result.let_in,
        "client_cores": round(result.cpu_s / result.seconds, 3),
    }


def quantile_ms(values: Sequence[float], share: float, missing: int = 0) -> float | None:
    """Return the smallest value at or below which that share lies; what is missing counts as later than all.

    None: there is none, or it is missing.
    """
    index = math.ceil(share * (len(values) + missing)) - 1
    return round(sorted(values)[index], 1) if 0 <= index < len(values) else None


def _soaked(bench: ServerBench, server: "_Server", clients: ProcessPoolExecutor) -> dict[str, Any]:
    seconds = 60 * bench.soak_minutes
    load = Load(bench.soak_sessions, seconds, _SETTINGS, turnover_s=min(_TURNOVER_S, seconds / 4))
    running = clients.submit(run_load, server.address, load)
    held = list[float]()
    while not wait([running], timeout=min(1.0, seconds / 100)).done:
        if (mib := process_mib(server.pid)) is not None:
            held.append(mib)
    numbers = load_numbers(running.result())
    server.connections_left()
    kept = ("decision_p99_ms", "chunks_sent", "chunks_missed", "chunks_late", "troubles")
    soak = {f"soak_{name}": numbers[name] for name in kept}
    return {"soak_minutes": bench.soak_minutes, "soak_sessions": bench.soak_sessions, **soak, **memory_numbers(held)}


def memory_numbers(held: Sequence[float]) -> dict[str, float | None]:
    """Return how a process grew from the second tenth of some time to the last, of MiB that it held; None: not known.

    The first tenth is there to warm up.
    """
    tenth = len(held) // 10
    if not tenth:
        return {"memory_growth": None, "memory_warm_mib": None, "memory_end_mib": None}
    warm, end = statistics.median(held[tenth : 2 * tenth]), statistics.median(held[-tenth:])
    return {
        "memory_growth": round(end / warm - 1, 4),
        "memory_warm_mib": round(warm, 1),
        "memory_end_mib": round(end, 1),
    }


def _offended(bench: ServerBench, server: "_Server", clients: ProcessPoolExecutor) -> dict[str, Any]:
    alone = hear_alone(server.address, bench.bystanders)
    offenders = clients.submit(run_rounds, server.address, bench.offences)
    harm = watch(server.address, bench.bystanders, alone, offenders)
    offences = offenders.result()
    return {
        "rounds": bench.rounds,
        "offences": offences.committed,
        "offences_unexpected": offences.unexpected,
        "bystanders_harmed": harm.reasons.total(),
        "bystanders": bench.bystanders.count,
        "bystander_plays": harm.plays,
        "bystander_decisions": harm.decisions,
        "bystander_texts": harm.texts,
        "bystander_latest_ms": round(harm.latest_ms, 1),
        "harm": dict(harm.reasons),
    }


def _write_policy(folder: Path) -> None:
    """Write `bench_model`, with a probability that depends on what is heard: else nobody could tell it disturbed."""
    model = bench_model()
    torch.nn.init.normal_(model.decision_head.weight, std=0.1)
    torch.nn.init.zeros_(model.decision_head.bias)
    write_policy(folder, model, bench_tokenizer())


@dataclass(frozen=True)
class _Server:
    """A server process, and what the system and `/metrics` say of it."""

    address: str
    pid: int
    log: Path

    def cpu(self) -> dict[str, float]:
        """Return seconds of CPU that its threads had so far, and that they waited for; nothing where it is no Linux."""
        tasks = Path(f"/proc/{self.pid}/task")
        if not tasks.exists():
            return {}
        ran_ns, waited_ns = 0, 0
        for task in tasks.iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            ran_ns, waited_ns = ran_ns + int(ran), waited_ns + int(waited)
        return {"server_cores": ran_ns / 1e9, "server_waited_cores": waited_ns / 1e9}

    def failures(self) -> dict[str, int]:
        """Return what it logged as faults of its own, and how often."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        faults = [line for line in lines if line["level"] in ("error", "critical")]
        return dict(Counter(" ".join(line.get(k, "") for k in ("event", "exception", "where")) for line in faults))

    def count(self, name: str) -> int:
        """Return a number of `/metrics`; 0: it is not there.

        Raises:
            ServerError: when the server does not answer.
        """
        try:
            text = httpx2.get(f"{self.address}/metrics", timeout=_STOP_S).text
        except httpx2.HTTPError as error:
            raise ServerError(f"the server at {self.address} does not answer any more: {error}") from error
        found = re.search(rf"^{re.escape(name)} (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def connections_left(self) -> int:
        """Wait until all who have gone are gone for the server, too; return how many it still counts after a while."""
        end = time.monotonic() + _STOP_S
        while (left := self.count("soundflow_connections")) and time.monotonic() < end:
            time.sleep(0.05)
        return left


@contextmanager
def _served(policy: Path, slots: int, log_file: Path) -> Iterator[_Server]:
    """Run `soundflow serve` as a user does, in a process of its own."""
    command = [sys.executable, "-m", "trainers.cli", "serve", "--policy", str(policy), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    with log_file.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--slots", str(slots)], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                process.wait()
                said = log_file.read_text().strip().splitlines() or ["it said nothing"]
                raise ServerError(f"the server does not start: {said[-1].removeprefix('soundflow: error: ')}")
            yield _Server(line.split()[-1], process.pid, log_file)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
