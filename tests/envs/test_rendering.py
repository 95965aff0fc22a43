import numpy as np
import pytest
from beeps import beeps, cue, event, scenario

from envs.episode import RESPOND, TOKENS, WAIT, Episode
from envs.rendering import draw_trace, figure_svg, render_ansi, render_trace
from envs.rewards import Reward
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer

CUES = (cue(1.0, 1.4, 3.0),)
EVENTS = (
    event("beep", "RESPOND", 1.0, 1.0),
    event("hum", "IGNORE", 2.4, 0.6),
    event("rain", "IGNORE", 0.0, 3.2, "ambient"),
    event("fan", "IGNORE", 0.5, 2.0, "ambient"),  # beside the rain, on a lane of its own
)


@pytest.fixture
def played():
    episode = Episode(scenario(8, CUES, EVENTS), ByteTokenizer(), Reward.default())
    say = [*ByteTokenizer().encode("A beep."), ByteTokenizer.end_id]
    for kind, ids in [(RESPOND, say), (TOKENS, []), (WAIT, []), (RESPOND, say[:4]), (TOKENS, say[4:])]:
        episode.step(kind, ids)
    episode.trace.probabilities += [0.9, None, 0.1, 0.8, None]
    return episode


def test_a_picture_has_the_size_asked_for_and_something_on_it(played):
    picture = render_trace(played.scenario, played.trace, 700, 400)
    assert (picture.shape, picture.dtype) == ((400, 700, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_the_figure_says_what_happened(played):
    figure = draw_trace(played.scenario, played.trace)
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"beep", "hum", "rain", "fan", "A beep.", "A beep.  (+0.2 s)"} <= texts
    assert "1 of 1 cues answered" in figure.get_suptitle()
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_svg_is_the_same_for_the_same_episode(played):
    document = figure_svg(played.scenario, played.trace)
    assert "<svg" in document
    assert ">beep<" in document
    assert document == figure_svg(played.scenario, played.trace)


def test_a_reply_may_hold_what_looks_like_a_formula(played):
    played.trace.replies[0].text = r"a $x_{ $ b \frac"
    assert render_trace(played.scenario, played.trace, 700, 400).any()


@pytest.mark.filterwarnings("error")  # matplotlib's of a glyph that no font has
def test_a_reply_may_hold_control_characters(played):
    played.trace.replies[0].text = "a\x1b[31m\n\x13b"
    assert render_trace(played.scenario, played.trace, 700, 400).any()
    assert "false alarm: a\ufffd[31m\ufffd\ufffdb\n" in render_ansi(played.scenario, played.trace)


def test_text(played):
    assert render_ansi(played.scenario, played.trace).splitlines() == [
        "sound  ..!!!.--",
        "agent  Rx.R~",
        "   0.4 s  false alarm: A beep.",
        "   1.6 s  answers beep +0.2 s: A beep.",
        f"reward {played.trace.total_reward:+.2f}",
    ]


@pytest.mark.parametrize("steps", [0, 1])
def test_an_episode_that_has_just_begun_can_be_drawn(steps):
    env = StreamingAudioEnv(beeps, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(steps):
        env.step({"kind": RESPOND, "tokens": np.zeros(16, int)})
    assert env.render().shape == (800, 1400, 3)


def test_human_mode_prints_every_step(capsys):
    env = StreamingAudioEnv(beeps, render_mode="human")
    env.reset(seed=0)
    env.step({"kind": WAIT, "tokens": np.zeros(16, int)})
    assert "agent  ." in capsys.readouterr().out
    assert env.render() is None
