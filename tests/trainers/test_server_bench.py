"""The server's benchmark: a real process under a small load, and what makes of a play beside offenders a harm."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.server.limits import Close
from tests.policies.conftest import write_tiny_policy
from trainers.cli import main
from trainers.server_bench import ServerBench, bench_serve, load_numbers, memory_numbers, quantile_ms
from trainers.server_bystanders import Harm, harm
from trainers.server_load import Decided, Heard, LoadResult, cut_into_frames, make_sound

OFFENCES = {"killed_in_a_reply", "empty_commit", "junk_frames", "slow_reader"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("served") / "tiny")


def test_a_server_process_is_measured_and_its_numbers_add_up(policy: Path) -> None:
    small = ServerBench(policy, sessions=9, minutes=0.03, soak_minutes=0.02, soak_sessions=2, rounds=1, slow_s=0.5)
    numbers = bench_serve(small)
    assert numbers["chunks_sent"] >= 9 * 3
    assert numbers["chunks_late"] + numbers["chunks_missed"] <= numbers["chunks_sent"]
    assert (numbers["troubles"], numbers["soak_troubles"]) == ({}, {})
    assert numbers["decision_p50_ms"] <= numbers["decision_p99_ms"] <= numbers["decision_max_ms"]
    assert 0 < numbers["server_decision_p99_ms"] <= numbers["decision_max_ms"]
    assert numbers["refusals"] > 0  # a busy machine tries the last ones when sessions have left already
    assert numbers["refusal_ms"] > 0
    assert numbers["client_cores"] > 0
    assert numbers["soak_chunks_sent"] > 0
    assert numbers["offences"] == dict.fromkeys(OFFENCES, 1)
    assert numbers["offences_unexpected"] == {}
    assert numbers["bystander_plays"] >= numbers["bystanders"] == 1
    assert numbers["bystander_decisions"] == 10 * numbers["bystander_plays"]
    assert numbers["bystander_texts"] > 0
    assert sum(numbers["harm"].values()) == numbers["bystanders_harmed"]
    assert set(numbers["harm"]) <= {"a decision more than 400 ms late"}  # which a busy machine may be to blame for
    assert (numbers["connections_left"], numbers["server_failures"]) == (0, {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--sessions", "4", "--soak-minutes", "0"],
            "--sessions 4: rounds of offences need 9 slots; or say --rounds 0",
        ),
        (["--sessions", "9", "--soak-sessions", "5"], "expected at most 4 with --sessions 9"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "serve", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("options", [["--minutes", "0"], ["--soak-minutes", "-1"], ["--rounds", "x"]])
def test_bad_sizes_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "serve", *options])


def test_frames_are_those_of_a_browser_and_bring_the_whole_sound() -> None:
    sound = make_sound(3.0, 0)
    frames = cut_into_frames(sound, 1)
    assert sum(frame.samples for frame in frames) == len(sound) == 72_000
    assert all(480 <= frame.samples <= 2400 for frame in frames[:-1])
    assert len({frame.samples for frame in frames}) > 10
    assert cut_into_frames(sound, 1) == frames != cut_into_frames(sound, 2)


def decided(chunk: int, latency_ms: float | None = 50.0, probability: float | None = 0.25) -> Decided:
    return Decided(chunk, "response.listen", probability, latency_ms, 20.0)


ALONE = Heard(chunks_sent=3, decided=[decided(0), decided(1), decided(2, probability=None)], texts=["a siren"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"decided": [decided(0, 399.0), decided(1, probability=0.25001), ALONE.decided[2]]}, None),
        ({"errors": ["server_error"], "close": Close.ENGINE_FAILED}, "server_error"),
        ({"close": Close.ENGINE_FAILED}, "closed with 1011"),
        ({"decided": [decided(0, 401.0), *ALONE.decided[1:]]}, "a decision more than 400 ms late"),
        ({"decided": [*ALONE.decided[:2], decided(2, None)]}, "silence took the place of its sound"),
        ({"decided": ALONE.decided[:2]}, "other decisions than alone"),
        (
            {"decided": [ALONE.decided[0]._replace(kind="response.speak"), *ALONE.decided[1:]]},
            "other decisions than alone",
        ),
        ({"decided": [decided(0, probability=0.26), *ALONE.decided[1:]]}, "other decisions than alone"),
        ({"decided": [*ALONE.decided[:2], decided(2)]}, "other decisions than alone"),
        ({"texts": ["a siren", "a siren"]}, "other texts than alone"),
        ({"texts": []}, "other texts than alone"),
    ],
)
def test_a_bystander_is_harmed_when_anything_is_not_as_alone(change: dict[str, object], reason: str | None) -> None:
    heard = replace(ALONE, **change)
    assert harm(heard, ALONE, 400.0) == reason
    found = Harm()
    found.add(heard, ALONE, 400.0)
    found.add(ALONE, ALONE, 400.0)
    assert found.reasons.total() == (reason is not None)
    assert found.plays == 2


def test_a_session_may_grow_old_but_not_be_closed_otherwise() -> None:
    assert Heard(errors=["session_expired"], close=Close.LIFETIME).troubles == []
    assert Heard(errors=["idle_timeout"], close=Close.IDLE).troubles == ["idle_timeout", "closed with 4000"]


def test_what_was_not_decided_is_later_than_all() -> None:
    heard = [
        Heard(chunks_sent=3, lag_ms=[1.0, 2.0], decided=[decided(0, 10.0), decided(1, 500.0)], texts=["a"]),
        Heard(chunks_sent=2, lag_ms=[3.0], decided=[decided(0, 20.0), decided(1, None)], errors=["server_error"]),
    ]
    numbers = load_numbers(LoadResult(heard, [5.0, 7.0], 1, cpu_s=2.0, seconds=8.0))
    assert (numbers["chunks_sent"], numbers["chunks_missed"], numbers["chunks_late"]) == (5, 2, 1)
    assert (numbers["decision_p50_ms"], numbers["decision_p99_ms"]) == (500.0, None)
    assert (numbers["server_decision_p99_ms"], numbers["send_lag_p99_ms"]) == (20.0, 3.0)
    assert (numbers["refusal_ms"], numbers["refusals"], numbers["not_refused"]) == (7.0, 2, 1)
    assert (numbers["replies"], numbers["troubles"], numbers["client_cores"]) == (1, {"server_error": 1}, 0.25)


def test_quantiles_and_memory() -> None:
    assert quantile_ms(list(np.arange(100.0)[::-1]), 0.99) == 98.0
    assert (quantile_ms([], 0.5), quantile_ms([1.0], 0.5, missing=1), quantile_ms([1.0], 0.6, missing=1)) == (
        None,
        1.0,
        None,
    )
    grown = memory_numbers([50.0] * 10 + [100.0] * 80 + [110.0] * 10)
    assert grown == {"memory_growth": 0.1, "memory_warm_mib": 100.0, "memory_end_mib": 110.0}
    assert memory_numbers([1.0] * 9)["memory_growth"] is None
