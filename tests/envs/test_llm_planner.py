"""The LLM planner against a real HTTP endpoint on this machine, which plays a model with written answers."""

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from envs.clip_library import ClipLibrary, Recording
from envs.curation import CuratedScenarios
from envs.curation.llm import LLMPlanner, _draw_bag
from envs.curation.outline import Outline
from envs.errors import PlanningError
from envs.foley import Foley
from envs.scenario import Clip

Answer = str | dict[str, Any] | int | tuple[int, str]
KEY = "sk-very-secret"


class Endpoint:
    """Answers requests in the order of a script; a number is an HTTP error, a pair one with a body."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append(json.loads(body) | {"path": self.path})
                endpoint.headers.append(dict(self.headers))
                answer = endpoint.script.pop(0)
                status, text = 200, ""
                if isinstance(answer, int):
                    status = answer
                elif isinstance(answer, tuple):
                    status, text = answer
                else:
                    content = answer if isinstance(answer, str) else json.dumps(answer)
                    text = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                """Requests are kept, not printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def planner(endpoint: Endpoint, **changes: Any) -> LLMPlanner:
    return LLMPlanner(endpoint.url, "small", pause_s=0.0, **changes)


def bag(seed: int = 1, share: float = 0.4) -> list[Any]:
    """What `plan` draws first from the generator of a seed."""
    return _draw_bag(np.random.default_rng(seed), share, Foley().candidates())


def event(annotation: int | None, role: str, **changes: Any) -> dict[str, Any]:
    return {"annotation": annotation, "description": f"sound {annotation}", "role": role, "seconds": 2.0} | changes


def scene(*more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A good scene of two sounds that deserve silence, and of an ambience that the model adds."""
    quiet = [i for i, annotation in enumerate(bag()) if annotation.decision == "IGNORE"]
    hum = event(None, "ambient", description="a fan hums", whole_scene=True)
    events = [hum, event(quiet[0], "foreground"), event(quiet[1], "foreground"), *more]
    return {"place": "kitchen", "sub_events": events, "order": [[1, 2]]} | changes


def refinement(count: int = 3) -> dict[str, Any]:
    return {"sub_events": [{"query": "a dog barks far away", "caption": "a dog barks", "tags": ["dog"]}] * count}


def plan(made: LLMPlanner, seed: int = 1) -> tuple[Outline, ...]:
    return made.outlines(np.random.default_rng(seed), 0.4)


def test_a_scene_is_planned_and_refined(endpoint: Endpoint) -> None:
    endpoint.script = [{"scenes": [scene()]}, refinement()]
    made = planner(endpoint)
    (outline,) = plan(made)
    assert outline.place == "kitchen"
    assert outline.order == ((1, 2),)
    assert [e.role for e in outline.sub_events] == ["ambient", "foreground", "foreground"]
    assert outline.sub_events[0].whole_scene
    assert {e.query for e in outline.sub_events} == {"a dog barks far away"}
    assert outline.sub_events[1].annotation in {annotation.text for annotation in bag()}
    assert not made.counts
    first, second = endpoint.requests
    assert first["path"] == "/v1/chat/completions"
    assert (first["model"], first["temperature"], first["response_format"]) == ("small", 0.7, {"type": "json_object"})
    assert isinstance(first["seed"], int)
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["messages"][0] != second["messages"][0]
    assert "(reply)" in first["messages"][1]["content"]
    assert "Authorization" not in endpoint.headers[0]


def test_two_scenes_where_the_bag_does_not_fit_one(endpoint: Endpoint) -> None:
    quiet = [i for i, annotation in enumerate(bag()) if annotation.decision == "IGNORE"]
    hum = event(None, "ambient", whole_scene=True)
    others = [hum, event(quiet[2], "foreground"), event(None, "background")]
    other = {"place": "street", "sub_events": others}
    endpoint.script = [{"exclude": [[quiet[0], quiet[2]]], "scenes": [scene(), other]}, refinement(), refinement()]
    outlines = plan(planner(endpoint))
    assert [outline.place for outline in outlines] == ["kitchen", "street"]
    assert outlines[0].exclusions == ((bag()[quiet[0]].text, bag()[quiet[2]].text),)


def broken_plans() -> list[tuple[Any, str, str]]:
    quiet = [i for i, annotation in enumerate(bag()) if annotation.decision == "IGNORE"]
    loud = [i for i, annotation in enumerate(bag()) if annotation.decision == "RESPOND"]
    alarms = [event(i, "foreground") for i in loud[:3]]
    return [
        ("Sure! Here is a scene.", "not JSON", "the answer is not JSON"),
        ("[" * 100_000, "not JSON", "the answer is not JSON"),
        ("[1, 2]", "field", "the answer is [1, 2], expected an object"),
        ({}, "field", "answer has no 'scenes', expected a list"),
        ({"scenes": []}, "rule", "the answer holds 0 scenes, expected 1, or 2"),
        ({"scenes": [scene()] * 3}, "rule", "the answer holds 3 scenes"),
        ({"scenes": [scene(place=None)]}, "field", "scene has no 'place'"),
        ({"scenes": [scene(event(99, "foreground"))]}, "field", "sub_events[3].annotation is 99, expected the number"),
        ({"scenes": [scene(event(loud[0], "background"))]}, "rule", "belong in the foreground"),
        ({"scenes": [scene(*alarms)]}, "rule", "3 of 5 foreground sub-events deserve a reply, expected at most half"),
        ({"scenes": [scene(event(1, "loud"))]}, "field", "sub_events[3].role is 'loud', expected foreground"),
        ({"scenes": [scene(order=[[2, 1]])]}, "rule", "order says that sub-event 2 comes before 1"),
        ({"exclude": [quiet[:2]], "scenes": [scene()]}, "rule", "which exclude each other"),
        ({"exclude": [[0]], "scenes": [scene()]}, "field", "exclude[0] is [0], expected a list of 2"),
    ]


@pytest.mark.parametrize(("answer", "kind", "told"), broken_plans())
def test_a_bad_plan_is_sent_back_with_what_is_wrong(endpoint: Endpoint, answer: Answer, kind: str, told: str) -> None:
    endpoint.script = [answer, {"scenes": [scene()]}, refinement()]
    made = planner(endpoint)
    assert len(plan(made)) == 1
    assert made.counts == {f"plan: {kind}": 1}
    correction = endpoint.requests[1]["messages"]
    assert [message["role"] for message in correction] == ["system", "user", "assistant", "user"]
    assert told in correction[-1]["content"]
    assert endpoint.requests[1]["seed"] != endpoint.requests[0]["seed"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refinement(2), "rule"),
        ({"sub_events": [{"query": "a dog", "caption": "a dog", "tags": []}] * 3}, "rule"),
        ({"sub_events": [{"query": "a dog barks far away", "caption": " ", "tags": []}] * 3}, "field"),
        ({"sub_events": [{"query": "a dog barks far away", "caption": "a dog"}] * 3}, "field"),
        ({"sub_events": [7, 7, 7]}, "field"),
    ],
)
def test_a_bad_refinement_is_asked_for_again(endpoint: Endpoint, answer: Answer, kind: str) -> None:
    endpoint.script = [{"scenes": [scene()]}, answer, refinement()]
    made = planner(endpoint)
    assert plan(made)[0].sub_events[0].tags == ("dog",)
    assert made.counts == {f"refine: {kind}": 1}


def test_a_model_that_never_answers_well_is_given_up_in_one_line(endpoint: Endpoint) -> None:
    endpoint.script = ["no", "{}", '{"scenes": 1}']
    made = planner(endpoint)
    with pytest.raises(PlanningError, match="'plan' in 3 tries") as error:
        plan(made)
    assert str(error.value).startswith(endpoint.url)
    assert str(error.value).endswith("the last: answer.scenes is 1, expected a list")
    assert "\n" not in str(error.value)
    assert made.counts == {"plan: not JSON": 1, "plan: field": 2}


def test_a_fenced_answer_is_read(endpoint: Endpoint) -> None:
    endpoint.script = [f"```json\n{json.dumps({'scenes': [scene()]})}\n```", refinement()]
    assert len(plan(planner(endpoint))) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(503, "HTTP 503"), (429, "HTTP 429"), ((200, "oops"), "no completion"), ((200, "{}"), "no completion")],
)
def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint, failure: Answer, kind: str) -> None:
    endpoint.script = [failure, {"scenes": [scene()]}, refinement()]
    made = planner(endpoint)
    assert len(plan(made)) == 1
    assert made.counts == {f"plan: {kind}": 1}


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ((401, f"Incorrect API key provided: {KEY}"), "the API key is missing or refused; set OPENAI_API_KEY"),
        ((404, f"no model for {KEY},\nsorry"), r"HTTP 404 for the model 'small'; .*: no model for \*\*\*, sorry"),
    ],
)
def test_what_no_retry_can_mend_is_said_at_once(
    endpoint: Endpoint, failure: Answer, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint.script = [failure]
    made = planner(endpoint)
    with pytest.raises(PlanningError, match=message) as error:
        plan(made)
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(error.value) + repr(made) + repr(pickle.dumps(made))


def test_a_key_that_is_none_is_not_quoted(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(PlanningError, match="OPENAI_API_KEY holds characters") as error:
        plan(planner(endpoint))
    assert KEY not in str(error.value)


def test_an_endpoint_that_is_not_there_or_slow_is_named(endpoint: Endpoint) -> None:
    class Slow(list[Answer]):
        def pop(self, index: Any = -1) -> Answer:
            release.wait(5)
            return 500

    release = threading.Event()
    endpoint.script = Slow()
    slow = planner(endpoint, timeout_s=0.05, retries=0)
    with pytest.raises(PlanningError, match=r"/v1: no answer within 0.05 s"):
        plan(slow)
    release.set()
    assert slow.counts == {"plan: timeout": 1}
    with pytest.raises(PlanningError, match=r"http://127.0.0.1:9/v1: cannot be reached .*start the endpoint"):
        plan(LLMPlanner("http://127.0.0.1:9/v1", "small"))


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://here/v1", "http://", "http://h:x/v1", "http://a b/v1"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(PlanningError, match=r"expected one such as 'http://127.0.0.1:8000/v1'"):
        LLMPlanner(url, "small")


def test_a_password_in_the_base_url_is_refused_and_not_quoted() -> None:
    with pytest.raises(PlanningError, match="OPENAI_API_KEY") as error:
        LLMPlanner(f"http://me:{KEY}@here/v1", "small")
    assert KEY not in str(error.value)


def test_the_model_judges_every_clip(endpoint: Endpoint) -> None:
    bark = np.sin(np.arange(32_000) * 0.2).astype(np.float32)
    clips = [Clip(bark, "dog", f"a dog barks far away {i}", "Test", "IGNORE", f"{i}.wav") for i in range(5)]
    library = ClipLibrary([Recording(clip, "", "test") for clip in clips])
    events = [event(None, "ambient", whole_scene=True), event(0, "foreground"), event(1, "foreground")]
    verdicts: list[Answer] = [
        {"verdict": "reject", "reason": "identity"}, {"verdict": "accept"},  # of the ambience's three
        "maybe", {"verdict": "reject", "reason": "smell"}, {"verdict": "accept"},  # asked again twice
        {"verdict": "reprocess", "reason": "continuity"}, {"verdict": "reject", "reason": "continuity"},
        {"verdict": "accept"},
    ]  # fmt: skip
    endpoint.script = [{"scenes": [{"place": "yard", "sub_events": events}]}, refinement(), *verdicts]
    made = planner(endpoint)
    scenarios = CuratedScenarios(made, library)
    scenario = scenarios(0)
    assert not endpoint.script
    assert [e.origin[-4:] for e in scenario.events if e.role == "foreground"] == [".wav", ".wav"]
    assert made.counts == {"verify: not JSON": 1, "verify: field": 1}
    outcomes = {"accepted": 3, "rejected: identity": 1, "reprocessed: continuity": 1, "rejected: continuity": 1}
    assert scenarios.counts == {**made.counts, **outcomes}
    shown = json.loads(endpoint.requests[2]["messages"][1]["content"])
    assert shown["recording"]["seconds"] == 2.0
    assert shown["asked"]["tags"] == ["dog"]
    assert endpoint.requests[2]["temperature"] == 0.0
