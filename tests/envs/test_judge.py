"""The judge of replies against a real HTTP endpoint on this machine, which plays a model by what it is asked."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beeps import REPLIES, beeps

from envs.errors import ConfigError, ScoringError
from envs.rewards import reward_from_config
from envs.rewards.judge import LLMJudge
from envs.rewards.rescoring import rescore
from envs.rewards.score_book import ScoreBook
from envs.rewards.scoring import ScoredReply
from envs.tokenizer import ByteTokenizer
from envs.vector_env import StreamingAudioVectorEnv

Answer = Any  # an object, a text, an HTTP status, or an Event that is waited for before the connection is dropped


class Endpoint:
    """Answers what `answer` returns for the reply that is asked about; keeps every request."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Answer] = lambda *_: {"score": 0.5}
        self.asked: list[str] = []  # replies
        self.bodies: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        lock, endpoint = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = json.loads(body["messages"][1]["content"])["reply"]
                with lock:
                    earlier = endpoint.asked.count(reply)
                    endpoint.asked.append(reply)
                    endpoint.bodies.append(body)
                    endpoint.at_once += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
                answer = endpoint.answer(reply, earlier)
                with lock:
                    endpoint.at_once -= 1
                self.respond(answer)

            def respond(self, answer: Answer) -> None:
                content = answer if isinstance(answer, str) else json.dumps(answer)
                usage = {"prompt_tokens": 100, "completion_tokens": 7}
                body = json.dumps({"choices": [{"message": {"content": content}}], "usage": usage}).encode()
                if isinstance(answer, int):
                    body = b"broken"
                self.send_response(answer if isinstance(answer, int) else 200)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:  # the client's patience has ended
                    assert endpoint.answer is slow

            def log_message(self, *_: Any) -> None:
                """Requests are kept, not printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


release = threading.Event()


def slow(*_: object) -> Answer:
    release.wait(20)
    return {"score": 0.5}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    release.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def judge(endpoint: Endpoint, cache: Path | None = None, **changes: Any) -> LLMJudge:
    return LLMJudge(endpoint.url, "small", None if cache is None else str(cache), pause_s=0.0, **changes)


def reply(text: str) -> ScoredReply:
    return ScoredReply(text, REPLIES, ("beep",), "beep")


def by_length(text: str, _: int = 0) -> Answer:
    return {"score": len(text) / 100}


def test_the_model_is_told_what_a_good_reply_says(endpoint: Endpoint) -> None:
    made = judge(endpoint, prompt='How good? Answer {"score": 1}.')
    endpoint.answer = lambda *_: {"score": 0.25}
    assert made.scores([reply("A beep!")]) == [0.25]
    (body,) = endpoint.bodies
    assert body["messages"][0] == {"role": "system", "content": 'How good? Answer {"score": 1}.'}
    asked = json.loads(body["messages"][1]["content"])
    assert asked == {"sound": "beep", "references": list(REPLIES), "key_facts": ["beep"], "reply": "A beep!"}
    assert (body["model"], body["temperature"]) == ("small", 0.0)


def test_replies_are_asked_about_together_each_once(endpoint: Endpoint) -> None:
    meet = threading.Barrier(4)  # breaks, and fails the test, unless four requests are there at once

    def answer(text: str, _: int) -> Answer:
        meet.wait(20)
        return by_length(text)

    endpoint.answer = answer
    made = judge(endpoint, concurrency=4)
    texts = ["a", "bb", "ccc", "dddd"] * 2
    assert made.scores([reply(text) for text in texts]) == [len(text) / 100 for text in texts]
    assert sorted(endpoint.asked) == ["a", "bb", "ccc", "dddd"]
    assert made.scores([reply("a"), reply("bb")]) == [0.01, 0.02]
    bill = made.bill
    assert (bill.scored, bill.cached, bill.calls, bill.refused) == (6, 2, 4, 0)
    assert (bill.tokens_in, bill.tokens_out) == (400, 28)
    assert bill.seconds > 0


@pytest.mark.parametrize(
    "bad", ["no idea", "{}", {"score": "good"}, {"score": 7}, {"score": True}, '{"score": NaN}', 500, 429]
)
def test_a_bad_answer_is_asked_for_again(endpoint: Endpoint, bad: Answer) -> None:
    endpoint.answer = lambda _, earlier: {"score": 1} if earlier else bad
    made = judge(endpoint)
    assert made.scores([reply("A beep.")]) == [1.0]
    assert (made.bill.calls, made.bill.refused) == (2, 1)


@pytest.mark.parametrize(
    ("bad", "reason"), [({"score": -1}, "answer.score is -1, expected a number from 0 to 1"), (503, "HTTP 503")]
)
def test_a_judge_that_has_no_score_is_one_error_and_never_a_zero(endpoint: Endpoint, bad: Answer, reason: str) -> None:
    endpoint.answer = lambda *_: bad
    made = judge(endpoint, retries=2)
    with pytest.raises(ScoringError) as error:
        made.scores([reply("A beep.")])
    message = str(error.value)
    assert message.startswith(f"the judge: {endpoint.url}: the model 'small' gave no usable answer to how good 'A beep")
    assert "in 3 tries" in message
    assert reason in message
    assert "\n" not in message
    assert (made.bill.calls, made.bill.refused) == (3, 3)


def test_one_failure_stops_the_asking_and_keeps_what_was_answered(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer = lambda text, _: 404 if text == "bad" else by_length(text)
    made = judge(endpoint, tmp_path / "scores.sqlite", concurrency=1)
    with pytest.raises(ScoringError, match="HTTP 404"):
        made.scores([reply(text) for text in ("good", "bad", *(f"later {i}" for i in range(50)))])
    assert endpoint.asked == ["good", "bad"]  # and not all fifty
    assert (made.bill.calls, made.bill.refused) == (2, 1)
    endpoint.answer = lambda *_: 500
    assert judge(endpoint, tmp_path / "scores.sqlite").scores([reply("good")]) == [0.04]


def test_an_endpoint_that_is_slow_or_not_there_is_named(endpoint: Endpoint) -> None:
    release.clear()
    endpoint.answer = slow
    with pytest.raises(ScoringError, match=r"in 2 tries; the last: .*no answer within 0.05 s"):
        judge(endpoint, timeout_s=0.05, retries=1).scores([reply("A beep.")])
    release.set()
    nowhere = LLMJudge("http://127.0.0.1:9/v1", "small")
    with pytest.raises(ScoringError, match=r"cannot be reached .*start the endpoint"):
        nowhere.scores([reply("A beep.")])
    assert (nowhere.bill.calls, nowhere.bill.refused) == (1, 1)  # asked once: another try would not help


def test_the_cache_answers_for_the_same_model_prompt_and_texts(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer = by_length
    cache = tmp_path / "new" / "scores.sqlite"
    assert judge(endpoint, cache).scores([reply("A beep.")]) == [0.07]
    endpoint.answer = lambda *_: {"score": 1}
    again = judge(endpoint, cache)
    assert again.scores([reply("A beep.")]) == [0.07]
    assert (again.bill.cached, again.bill.calls) == (1, 0)
    assert judge(endpoint, cache, prompt="Another.").scores([reply("A beep.")]) == [1.0]
    assert LLMJudge(endpoint.url, "large", str(cache)).scores([reply("A beep.")]) == [1.0]
    assert again.scores([ScoredReply("A beep.", ("Else.",), (), "beep")]) == [1.0]
    assert len(endpoint.asked) == 4


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    """They begin with no file, write the same keys at the same time, and agree on what stands."""
    code = (
        "import sys; from pathlib import Path; from envs.rewards.score_book import ScoreBook\n"
        "book = ScoreBook(Path(sys.argv[1])); mine = float(sys.argv[2])\n"
        "print([book.write({str(i): mine})[str(i)] for i in range(30)])"
    )
    path = tmp_path / "scores.sqlite"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path), score], stdout=subprocess.PIPE, text=True)
        for score in ("0.25", "0.75")
    ]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    stand = ScoreBook(path).read([str(i) for i in range(30)])
    assert [stand[str(i)] for i in range(30)] == json.loads(said[0])


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE bills (id INTEGER)")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"not a database at all" * 100), "cannot be used as a file of scores"),
        (lambda path: path.mkdir(), "cannot be used as a file of scores"),
        (other_database, "is a database of something else"),
    ],
)
def test_a_cache_that_is_none_is_one_error(endpoint: Endpoint, tmp_path: Path, spoil: Any, message: str) -> None:
    path = tmp_path / "scores.sqlite"
    spoil(path)
    args = {"base_url": endpoint.url, "model": "small", "cache": str(path)}
    entry = {"name": "helpfulness", "args": {"scorer": {"name": "judge", "args": args}}}
    with pytest.raises(ConfigError) as error:
        reward_from_config([entry])
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "name another" in str(error.value)


def test_a_score_that_was_tampered_with_is_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    judge(endpoint, path).scores([reply("A beep.")])
    with sqlite3.connect(path) as file:
        file.execute("UPDATE scores SET score = 'high'")
    with pytest.raises(ScoringError, match=r"scores.sqlite: the score of \w+ is 'high', expected a number from 0 to 1"):
        judge(endpoint, path).scores([reply("A beep.")])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"base_url": "here"}, "expected one such as 'http://127.0.0.1:8000/v1'"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"retries": 1.5}, "retries is 1.5, expected a whole number from 0"),
        ({"concurrency": 0}, "concurrency is 0, expected a whole number from 1"),
        ({"modle": "x"}, "unexpected keyword argument 'modle'"),
    ],
)
def test_a_judge_that_cannot_be_built_is_named(args: dict[str, Any], message: str) -> None:
    whole = {"base_url": "http://127.0.0.1:8000/v1", "model": "small", **args}
    with pytest.raises(ConfigError, match="component 'helpfulness' cannot be built") as error:
        reward_from_config([{"name": "helpfulness", "args": {"scorer": {"name": "judge", "args": whole}}}])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ({"name": "jugde"}, "did you mean 'judge'"),
        ({"nam": "judge"}, "did you mean 'name'"),
        ({}, "a name or a class"),
        ({"name": "chrf", "class": "x:Y"}, "not both"),
        ({"class": "no_such_module:Mine"}, "cannot be imported"),
        ({"class": "envs.trace:Reply", "args": {"start_s": 0.0}}, "has no method scores"),
    ],
)
def test_a_scorer_that_is_none_is_named(scorer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="component 'helpfulness' cannot be built: scorer: ") as error:
        reward_from_config([{"name": "helpfulness", "args": {"scorer": scorer}}])
    assert message in str(error.value)


def test_a_batch_is_played_and_scored_again_under_a_judge(endpoint: Endpoint, tmp_path: Path) -> None:
    """Live, the replies that end in one step are asked about together; again, with the cache, nothing is asked."""
    endpoint.answer = by_length
    args = {"base_url": endpoint.url, "model": "small", "cache": str(tmp_path / "scores.sqlite"), "pause_s": 0.0}
    config = [{"name": "helpfulness", "args": {"scorer": {"name": "judge", "args": args}}}, {"name": "miss"}]
    reward, ids = reward_from_config(config), ByteTokenizer()
    env = StreamingAudioVectorEnv(12, beeps, reward=reward, autoreset=False)
    env.reset(options={"scenario_seeds": list(range(12))})
    done, step = np.zeros(12, bool), 0
    while not done.all():
        words = np.full((12, 16), 257)
        for slot in range(12):
            words[slot, :8] = [*ids.encode(f"beep {slot:2d}"), ids.end_id]
        done |= env.step({"kind": np.full(12, step % 2), "tokens": words})[2]
        step += 1
    scores = [s.rewards["helpfulness"] for trace in env.traces for s in trace.steps if s.rewards["helpfulness"]]
    assert scores
    assert set(scores) == {0.07}
    bill = reward.bills["helpfulness"]
    assert bill.calls == len(endpoint.asked) == len(set(endpoint.asked))
    asked = len(endpoint.asked)
    again = reward_from_config(config)
    assert rescore(env.traces, again) == env.traces
    assert len(endpoint.asked) == asked
    assert (again.bills["helpfulness"].calls, again.bills["helpfulness"].cached) == (0, asked)


def test_a_judge_that_fails_stops_the_run_and_names_the_component(endpoint: Endpoint) -> None:
    endpoint.answer = lambda *_: 404
    args = {"base_url": endpoint.url, "model": "small"}
    reward = reward_from_config([{"name": "helpfulness", "args": {"scorer": {"name": "judge", "args": args}}}])
    env = StreamingAudioVectorEnv(8, beeps, reward=reward)
    env.reset(seed=0)
    words = np.tile(np.array([ByteTokenizer().encode("x")[0], 256]), (8, 8))
    step = partial(env.step, {"kind": np.ones(8, np.int64), "tokens": words})
    with pytest.raises(
        ConfigError, match=r"component 'helpfulness' failed: the judge: .*HTTP 404 for the model"
    ) as one:
        deque((step() for _ in range(12)), maxlen=0)
    assert "\n" not in str(one.value)
