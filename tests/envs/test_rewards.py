import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from beeps import REPLIES, beeps, cue

from envs.errors import ConfigError
from envs.rewards import COMPONENTS, Moment, Reward, reward_from_config
from envs.stream_env import StreamingAudioEnv
from envs.trace import Reply, Trace
from envs.vector_env import StreamingAudioVectorEnv

CUE = cue(2.0, 3.0, 5.0, urgency=0.8)


class Brevity:
    """A user's own component."""

    def __init__(self, limit: int = 1) -> None:
        self.limit = limit

    def value(self, moment: Moment) -> float:
        return 1.0 if moment.ended is not None and moment.ended.num_tokens <= self.limit else 0.0


class NoComponent:
    pass


def moment(**changes):
    trace = Trace(0, "Proactive", 20, (CUE,), ())
    quiet = Moment(trace, 0, 0.4, None, None, (), False, False, False)
    filled = replace(quiet, **changes)
    trace.replies += [r for r in (filled.started or filled.ended,) if r is not None]
    return filled


def value(name, **changes):
    return COMPONENTS[name]().value(moment(**changes))


def answer(start_s, text="", num_tokens=0):
    return Reply(start_s, start_s + 0.4, text, num_tokens, cue=0)


ALARM = Reply(1.0, 1.4, "hello", 5, cue=None)


@pytest.mark.parametrize(
    ("start_s", "expected"),
    [(3.0, 0.8), (4.0, 0.4), (5.0, 0.0), (2.5, 1.0), (2.9, 0.8 * 1.05)],  # before ready: more, but at most 1
)
def test_latency_falls_from_urgency_at_ready_to_nothing_at_the_deadline(start_s, expected):
    assert value("latency", started=answer(start_s)) == pytest.approx(expected)


def test_latency_and_helpfulness_ask_for_a_match():
    assert value("latency", started=ALARM) == value("helpfulness", ended=ALARM) == 0.0


def test_helpfulness_scores_the_text_when_the_reply_ends():
    assert value("helpfulness", ended=answer(3.0, REPLIES[0])) == pytest.approx(1.0)
    assert value("helpfulness", ended=answer(3.0, "zzz")) == pytest.approx(0.0, abs=0.02)
    assert value("helpfulness", started=answer(3.0)) == 0.0


def test_false_alarm():
    assert [value("false_alarm", started=ALARM), value("false_alarm", started=answer(3.0))] == [-1.0, 0.0]
    assert value("false_alarm", ended=ALARM) == 0.0


def test_a_miss_costs_the_urgency():
    assert value("miss", missed=(CUE, CUE)) == pytest.approx(-1.6)


@pytest.mark.parametrize(("start_s", "expected"), [(2.0, -0.5), (2.5, -0.25), (3.0, 0.0), (4.0, 0.0)])
def test_premature_grows_towards_the_onset(start_s, expected):
    assert value("premature", started=answer(start_s)) == pytest.approx(expected)


def test_overlap_is_free_when_the_cue_is_urgent():
    both = {"agent_speaking": True, "user_speaking": True}
    assert value("overlap", started=ALARM, **both) == pytest.approx(-0.1)
    assert value("overlap", started=answer(3.0), **both) == pytest.approx(-0.1)  # urgency 0.8
    assert COMPONENTS["overlap"](urgent_from=0.8).value(moment(started=answer(3.0), **both)) == 0.0
    assert value("overlap", started=ALARM, agent_speaking=True) == 0.0


def test_verbosity_counts_tokens_over_the_budget():
    assert value("verbosity", ended=answer(3.0, num_tokens=24)) == 0.0
    assert value("verbosity", ended=answer(3.0, num_tokens=34)) == pytest.approx(-0.2)


def test_repetition_is_the_share_of_repeated_4_grams():
    assert value("repetition", ended=answer(3.0, "one two three four five")) == 0.0
    assert value("repetition", ended=answer(3.0, "a b c d a b c d")) == pytest.approx(-1 / 5)
    assert value("repetition", ended=answer(3.0, "too short")) == 0.0


def test_an_invalid_action_costs_a_tenth():
    assert value("invalid_action", invalid=True) == pytest.approx(-0.1)


def test_nothing_happened_nothing_earned():
    assert set(Reward.default()(moment()).values()) == {0.0}


def test_weights_multiply_and_default_to_one():
    reward = reward_from_config([{"name": "miss", "weight": 2.0}, {"name": "false_alarm"}])
    assert reward(moment(missed=(CUE,), started=ALARM)) == pytest.approx({"miss": -1.6, "false_alarm": -1.0})


def test_no_list_means_every_component():
    assert [name for name, _, _ in reward_from_config([]).components] == list(COMPONENTS)


def test_a_users_own_class_by_its_import_path():
    reward = reward_from_config(
        [{"name": "brevity", "weight": 0.5, "class": f"{__name__}:Brevity", "args": {"limit": 6}}]
    )
    assert reward(moment(ended=answer(3.0, num_tokens=6))) == {"brevity": 0.5}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "latancy"}, "did you mean 'latency'"),
        ({"name": "latency", "wieght": 1}, "did you mean 'weight'"),
        ({"weight": 1}, "no component is called ''"),
        ("latency", "an entry is a mapping"),
        ({"name": "latency", "weight": "2"}, "component 'latency' has weight '2', expected a finite number"),
        ({"name": "latency", "weight": True}, "component 'latency' has weight True, expected a finite number"),
        ({"name": "latency", "weight": math.nan}, "weight nan"),
        ({"name": "overlap", "args": {"urgent": 1}}, "component 'overlap' cannot be built"),
        ({"name": "mine", "class": "no_such_module:Mine"}, "'no_such_module:Mine' cannot be imported"),
        ({"name": "mine", "class": f"{__name__}:Nothing"}, "cannot be imported"),
        ({"name": "mine", "class": "Brevity"}, "write 'module:Class'"),
        ({"name": "mine", "class": ".relative:Mine"}, "cannot be imported"),
        ({"name": "mine", "class": f"{__name__}:NoComponent"}, "has no method value"),
        ({"class": f"{__name__}:Brevity"}, "has no name"),
    ],
)
def test_bad_entries_are_named(entry, message):
    with pytest.raises(ConfigError) as caught:
        reward_from_config([entry])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_used_twice_is_an_error():
    with pytest.raises(ConfigError, match="'miss' is listed 2 times"):
        reward_from_config([{"name": "miss"}, {"name": "miss", "weight": 2}])
    with pytest.raises(ConfigError, match="'mine' is listed 2 times"):
        Reward([("mine", 1.0, Brevity()), ("mine", 1.0, Brevity())])


class Gives:
    """Whatever it was told to."""

    def __init__(self, given):
        self.given = given

    def value(self, moment):
        return self.given


def test_a_numpy_number_counts_as_the_number_it_is():
    value = Reward([("mine", 2.0, Gives(np.float32(0.5)))])(moment())["mine"]
    assert (type(value), value) == (float, 1.0)


@pytest.mark.parametrize("given", [math.nan, math.inf, None, "much", "1"])
def test_what_is_no_finite_number_is_named(given):
    with pytest.raises(ConfigError, match=r"component 'mine' gave .* at step 0 of scenario 0"):
        Reward([("mine", 1.0, Gives(given))])(moment())


def test_a_weight_too_large_for_a_value_is_named():
    with pytest.raises(ConfigError, match=r"component 'mine' gave inf at step 0 of scenario 0"):
        Reward([("mine", 1e308, Gives(1e5))]).earned(moment())
    with pytest.raises(ConfigError, match="add up to no finite number at step 0 of scenario 0"):
        Reward([("a", 1e308, Gives(1.0)), ("b", 1e308, Gives(1.0))]).earned(moment())


class WithTotal(Reward):
    """A user's subclass that gives more than its components."""

    def __init__(self, given):
        super().__init__([("latency", 1.0, COMPONENTS["latency"]()), ("miss", 1.0, COMPONENTS["miss"]())])
        self.given = given

    def __call__(self, moment):
        return self.given if isinstance(self.given, list) else {**super().__call__(moment), **self.given}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"total": 1.0},
            r"WithTotal gave \['latency', 'miss', 'total'\] at step 0 of scenario 5.*components latency",
        ),
        ([0.0, 1.0], r"WithTotal gave \[0.0, 1.0\]"),
        ({"miss": math.nan}, "component 'miss' gave nan at step 0 of scenario 5"),
        ({"miss": "much"}, "component 'miss' gave 'much'"),
        ({"miss": None}, "component 'miss' gave None"),
    ],
)
@pytest.mark.parametrize("make", [StreamingAudioEnv, partial(StreamingAudioVectorEnv, 1)], ids=["one", "batch"])
def test_what_does_not_add_up_to_the_steps_reward_stops_the_run(make, given, message):
    env = make(scenarios=beeps, reward=WithTotal(given))
    many = "num_envs" in dir(env)
    env.reset(options={"scenario_seeds": [5]} if many else {"scenario_seed": 5})
    action = {"kind": 0, "tokens": np.full(16, 257)}
    with pytest.raises(ConfigError, match=message):
        env.step({key: np.array([value]) for key, value in action.items()} if many else action)


def test_a_subclass_is_asked_at_every_step_of_the_batch_too():
    """What it gives where nothing happens is its own affair."""
    env = StreamingAudioVectorEnv(1, beeps, reward=WithTotal({"latency": np.float32(0.5)}))
    env.reset(seed=0)
    _, reward, *_ = env.step({"kind": np.zeros(1, np.int64), "tokens": np.full((1, 16), 257)})
    assert reward == [0.5]
    assert type(env.traces[0].steps[0].rewards["latency"]) is float  # what JSON can hold


class Fails:
    def value(self, moment):
        return moment.no_such_thing


def test_a_component_that_fails_is_named_with_its_line():
    line = Fails.value.__code__.co_firstlineno + 1
    with pytest.raises(ConfigError) as caught:
        Reward([("mine", 1.0, Fails())])(moment())
    message = str(caught.value)
    assert "component 'mine' failed at step 0 of scenario 0: AttributeError" in message
    assert f"test_rewards.py, line {line})" in message


def test_a_module_that_is_no_python_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_rewards.py").write_text("class Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"'broken_rewards:Mine' cannot be imported .*SyntaxError"):
        reward_from_config([{"name": "mine", "class": "broken_rewards:Mine"}])


def test_components_of_a_replys_words_say_so():
    assert Reward.default().of_text == {"helpfulness", "verbosity", "repetition"}
