"""What training rests on: credit, layout of supervised streams, and that both losses really learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from envs.clock import due_chunk
from envs.episode import Episode
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Moment, Reward
from envs.scenario import Cue
from envs.trace import Reply, Trace
from policies.engine import StepEvent
from policies.features import LogMel
from policies.sequences import Turn
from tests.policies.conftest import REPLIES, tiny_model
from tests.trainers.stored import store
from trainers.advantages import content_advantages, decision_advantages
from trainers.config import ReinforcementConfig, SupervisedConfig
from trainers.experience import experience
from trainers.losses import DualLoss
from trainers.ppo import train_ppo
from trainers.ppo_loss import all_action_gain, kl_divergence
from trainers.rollouts import Rollout, collect
from trainers.samples import Collator, SampleMaker, hurried, timeline_turns
from trainers.scenes import Composed, Steady
from trainers.stage_data import StageData
from trainers.stage_trainer import Place, fit_stage
from trainers.supervised import STAGES

SHORT = ProactiveScenarios(Foley(), 0.8, (20, 24))


@pytest.fixture(scope="module")
def tokenizer():
    from envs.sound_classes import SOUND_CLASSES
    from policies.tokenizer import train_tokenizer

    replies = [r for c in SOUND_CLASSES.values() if c.answer for r in c.answer.replies]
    return train_tokenizer([*REPLIES, *replies], 400)


def test_advantages_by_hand() -> None:
    """Decisions after chunks 0, 1 and 3; gamma 0.5 a chunk, lambda 1."""
    got = decision_advantages(
        torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 1.0]), torch.tensor([0, 1, 3]), 5, 0.0, 0.5, 1.0
    )
    third = 2.0 - 1.0
    second = (0.0 + 0.25 * 1.0 - 0.5) + 0.25 * third
    first = (1.0 + 0.5 * 0.5 - 0.5) + 0.5 * second
    torch.testing.assert_close(got, torch.tensor([first, second, third]))


def test_truncation_bootstraps() -> None:
    """The value of going on is as many chunks away as the last decision's reply took."""
    for end, expected in ((1, 2.0), (3, 0.5)):
        got = decision_advantages(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([0]), end, 4.0, 0.5, 0.95)
        torch.testing.assert_close(got, torch.tensor([expected]))


def test_a_rare_choice_grows_though_it_was_not_taken() -> None:
    """All choices count, weighed by the sampling policy; the ratio of one step may grow to two, and no further."""
    sampled = torch.tensor([[0.98, 0.02]])
    odds = torch.tensor([[0.0, np.log(0.02 / 0.98)]], dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.SGD([odds], 1.0)
    for _ in range(200):
        gain, _ = all_action_gain(odds.log_softmax(-1), sampled, torch.tensor([[0.0, 1.0]]), 0.2, 1.0)
        optimizer.zero_grad()
        (-gain.mean()).backward()
        optimizer.step()
    grown = float(odds.softmax(-1)[0, 1].detach())
    assert 0.04 <= grown < 0.045
    gain, clipped = all_action_gain(sampled.log(), sampled, torch.tensor([[0.25, -1.0]]), 0.2, 1.0)
    torch.testing.assert_close(gain, torch.tensor([0.98 * 0.25 - 0.02]))
    assert not clipped.any()


def test_rewards_stand_where_they_were_earned() -> None:
    """A reply of three tokens over two steps: the decision earns all of it, its tokens what the text was worth."""
    rollout = Rollout(Trace(seed=1, ability="Proactive", num_chunks=4, cues=(), events=()))
    nothing = torch.zeros(1)
    steps = [
        (StepEvent(0, 0, "silent", 0.1, (), False, -0.1), {"miss": -0.5}),
        (StepEvent(0, 1, "response", 0.9, (7, 8), False, -0.1, (-1.0, -1.0)), {"latency": 0.75}),
        (StepEvent(0, 2, "speaking", None, (9,), True, None, (-1.0,)), {"helpfulness": 0.5, "overlap": -0.25}),
        (StepEvent(0, 3, "silent", 0.1, (), False, -0.1), {"latency": 0.0}),
    ]
    for event, rewards in steps:
        rollout.add_event(event, nothing)
        rollout.add_rewards(sum(rewards.values()), rewards.get("helpfulness", 0.0))
    assert rollout.is_decision == [True, True, False, False, False, True]
    assert rollout.reward == [-0.5, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert rollout.text_reward == [0.0, 0.0, 0.5, 0.5, 0.5, 0.0]
    assert rollout.turns == [Turn(0, None), Turn(1, (7, 8, 9)), Turn(3, None)]


def spoken(replies: list[Reply], cues: tuple[Cue, ...], words: list[tuple[tuple[int, ...], float]]) -> Rollout:
    """An episode in which each chunk has a reply of these tokens, worth so much."""
    rollout = Rollout(Trace(seed=1, ability="Mixed", num_chunks=len(words), cues=cues, events=(), replies=replies))
    for chunk, (tokens, worth) in enumerate(words):
        log_probs = (-1.0,) * len(tokens)
        rollout.add_event(StepEvent(0, chunk, "response", 0.9, tokens, True, -0.1, log_probs), torch.zeros(1))
        rollout.add_rewards(worth, worth)
    return rollout


def cue(sub_task: str) -> Cue:
    return Cue(0.0, 0.4, 9.0, "label", ("Yes.",), (), 1.0, "i", sub_task)


def test_words_are_compared_with_words_under_the_same_circumstances() -> None:
    """Answers against answers, false alarms against false alarms; an end that is forced has no merit."""
    replies = [Reply(0.4, 0.8, cue=0), Reply(0.8, 1.2), Reply(1.2, 1.6, cue=1)]
    words = [((7, 8), 1.0), ((7,), -0.5), ((5, 6, 7), 0.0)]
    got = content_advantages([spoken(replies, (cue("distress"), cue("safety_signal")), words)], 3)
    above = torch.tensor([0.6, 0.6, 0.0, -0.4, -0.4, -0.4])  # the mean over the five tokens of answers is 0.4
    expected = above / above.square().mean().sqrt()
    torch.testing.assert_close(got, torch.cat((expected[:-1], torch.zeros(1))), atol=1e-5, rtol=0)
    assert content_advantages([], 3).shape == (0,)


def test_a_transcript_is_not_blamed_for_being_harder_than_a_warning() -> None:
    """Abilities are compared with themselves, and a reply that a time limit cut with nothing."""
    replies = [Reply(0.4 * i, 0.4 * i + 0.4 if i < 4 else None, cue=i) for i in range(5)]
    cues = tuple(cue(sub_task) for sub_task in ("distress", "clean", "safety_signal", "noisy", "distress"))
    worth = (1.0, 0.25, 0.5, 0.25, 0.0)
    got = content_advantages([spoken(replies, cues, [((7,), one) for one in worth])], 3)
    above = torch.tensor([0.25, 0.0, -0.25, 0.0, 0.0])
    torch.testing.assert_close(got, above / above.square().mean().sqrt(), atol=1e-4, rtol=0)


def test_the_kl_is_the_kl() -> None:
    """Against torch's, and what cannot be spoken has no part in it."""
    torch.manual_seed(0)
    p, q = torch.randn(5, 7).log_softmax(-1), torch.randn(5, 7).log_softmax(-1)
    expected = F.kl_div(q, p, log_target=True, reduction="batchmean")
    torch.testing.assert_close(kl_divergence(p, q).mean(), expected)
    never = torch.full((5, 1), -torch.inf)
    silenced = kl_divergence(torch.cat((p, never), 1), torch.cat((q, never), 1))
    torch.testing.assert_close(silenced.mean(), expected)
    assert kl_divergence(p, p).abs().max() < 1e-6 < kl_divergence(p, q).min()


def test_supervised_turns_play_back_as_the_timeline(tokenizer) -> None:
    """An agent that does what the targets say answers every cue, right after its sound has ended."""
    layout = tiny_model(tokenizer).layout
    for seed in range(4):
        scenario = SHORT(seed)
        episode = Episode(scenario, tokenizer, Reward.default())
        replies = {t.chunk: t.reply for t in timeline_turns(scenario.timeline, scenario.num_chunks, tokenizer, layout)}
        pending: list[int] = []
        while not episode.over:
            reply = replies.get(episode.step_index)
            kind = 2 if pending else 1 if reply else 0
            pending = pending or list(reply or ())
            episode.step(kind, pending[: layout.tokens_per_chunk])
            pending = pending[layout.tokens_per_chunk :]
        assert all(reply.cue is not None for reply in episode.trace.replies)
        for reply, entry in zip(episode.trace.replies, scenario.timeline, strict=True):
            assert entry.text.startswith(reply.text)  # the stream's end may cut the last one
            assert len(reply.text) > 0


def test_hurried_replies_come_between_ready_and_the_sounds_end(tokenizer) -> None:
    """Still one reply a cue, in order, and some of them earlier than the timeline's; a share of 0 moves none."""
    moved = 0
    for scenario in map(SHORT, range(12)):
        assert hurried(scenario, 0.0) == list(scenario.timeline)
        for early, entry, cue in zip(hurried(scenario, 1.0), scenario.timeline, scenario.cues, strict=True):
            assert early.text == entry.text
            assert min(due_chunk(cue.ready_s), entry.chunk) <= early.chunk <= entry.chunk
            moved += early.chunk < entry.chunk
    assert moved > 3


def test_the_dual_loss_may_be_computed_in_bfloat16_over_float32_weights(tokenizer) -> None:
    """As `bf16: true` has it."""
    model = tiny_model(tokenizer).train()
    batch = Collator(model.layout)([SampleMaker(tokenizer, model.layout, LogMel()).stream(SHORT(0))])
    loss = DualLoss(model, stream_weight=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        roughly = loss(batch)
    roughly.backward()
    assert {p.grad.dtype for p in model.text_model.parameters() if p.grad is not None} == {torch.float32}
    torch.testing.assert_close(roughly, loss(batch), rtol=0.02, atol=0.0)


def test_dual_loss_learns_one_batch(tokenizer) -> None:
    model = tiny_model(tokenizer).train()
    maker = SampleMaker(tokenizer, model.layout, LogMel())
    batch = Collator(model.layout)([maker.stream(SHORT(seed)) for seed in range(4)])
    loss = DualLoss(model, stream_weight=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        lm, stream = loss.parts(batch, loss.hidden(batch))
        losses.append((lm.item(), stream.item()))
        optimizer.zero_grad()
        (lm + stream).backward()
        optimizer.step()
    assert losses[-1][0] < 0.6 * losses[0][0]
    assert losses[-1][1] < 0.2 * losses[0][1]


def test_the_dual_loss_is_the_sum_that_the_paper_writes(tokenizer) -> None:
    """By hand from the logits: L_lm over reply tokens plus lambda times L_stream over control tokens."""
    model = tiny_model(tokenizer)
    scenario = next(s for s in map(SHORT, range(9)) if s.cues)
    sample = SampleMaker(tokenizer, model.layout, LogMel()).stream(scenario)
    batch = Collator(model.layout)([sample])
    with torch.no_grad():
        hidden = model.hidden_states(batch.tokens, model.encode(batch.log_mel).flatten(0, 1))[0]
        log_probs = model.lm_head(hidden).log_softmax(-1)
        ids, sequence = batch.tokens.ids[0], sample.sequence
        lm = -torch.stack([log_probs[i - 1, ids[i]] for i in sequence.contents]).mean()
        stream = -torch.stack([log_probs[i - 1, ids[i]] for i in sequence.decisions]).mean()
        torch.testing.assert_close(DualLoss(model, 2.0)(batch), lm + 2.0 * stream)
        rarer = [4.0 if ids[i] == model.layout.response else 1.0 for i in sequence.decisions]
        terms = [-log_probs[i - 1, ids[i]] * w for i, w in zip(sequence.decisions, rarer, strict=True)]
        torch.testing.assert_close(DualLoss(model, 2.0, 4.0)(batch), lm + 2.0 * sum(terms) / sum(rarer))


def test_sounds_are_cut_where_they_stand(tokenizer) -> None:
    """An offline turn hears the chunks of its sound and no others, and says its reply or its caption."""
    layout = tiny_model(tokenizer).layout
    maker, scenario = (
        SampleMaker(tokenizer, layout, LogMel()),
        next(s for s in map(SHORT, range(64)) if len(s.cues) > 1),
    )
    stream = maker.stream(scenario)
    foreground = [e for e in scenario.events if e.role == "foreground"]
    sounds = maker.sounds(scenario, stream)
    assert [s.label for s in sounds] == [e.label for e in foreground]
    for sound, event in zip(sounds, foreground, strict=True):
        missing = event.duration_s - len(sound.log_mel) * 0.4
        assert missing >= -0.8, "a sound takes no more than the chunks it touches"
        assert missing <= 0 or len(sound.log_mel) >= 4, "a beginning is long enough to be known by"
        assert sound.sequence.columns.ids[0] == layout.offline
        text = tokenizer.decode([sound.sequence.columns.ids[i] for i in sound.sequence.contents])
        if event.decision == "IGNORE":
            assert text == event.caption
        else:
            assert text in [entry.text for entry in scenario.timeline]


def test_the_sound_that_is_on_is_named_at_each_decision(tokenizer) -> None:
    """What is named is a foreground sound of the chunk; names stand in the order of the decisions."""
    layout = tiny_model(tokenizer).layout
    scenario = next(s for s in map(SHORT, range(64)) if len(s.cues) > 1)
    stream = SampleMaker(tokenizer, layout, LogMel()).stream(scenario)
    turns = timeline_turns(scenario.timeline, scenario.num_chunks, tokenizer, layout)
    assert len(stream.heard) == len(stream.sequence.decisions) == len(turns)
    foreground = [e for e in scenario.events if e.role == "foreground"]
    for turn, named in zip(turns, stream.heard, strict=True):
        begin, end = turn.chunk * 0.4, (turn.chunk + 1) * 0.4
        sounding = {e.label for e in foreground if e.onset_s < end and e.end_s > begin}
        filling = {e.label for e in foreground if e.onset_s <= begin and e.end_s >= end}
        assert named in sounding | {""}
        assert named in filling or not filling
    assert len(set(stream.heard)) > 1


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_learns_and_changes_only_what_it_trains(name: str, tokenizer, tmp_path: Path) -> None:
    model = tiny_model(tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maker = SampleMaker(tokenizer, model.layout, LogMel())
    scenarios = [SHORT(seed) for seed in range(8)]
    streams = [maker.stream(scenario) for scenario in scenarios]
    sounds = [sound for s, own in zip(scenarios, streams, strict=True) for sound in maker.sounds(s, own)]
    stage = replace(getattr(SupervisedConfig(), name), steps=40, learning_rate=3e-3)
    own = streams if stage.learns_from == "streams" else sounds
    budget = 8 * max(len(sample.sequence) for sample in own)
    data = StageData(store(own, tmp_path / "samples"))
    place = Place(tmp_path / "checkpoints", tmp_path / "logs", {})
    log = fit_stage(name, replace(stage, max_tokens_per_batch=budget), model, tokenizer, data, place, seed=0)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == set(stage.trains)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_rollouts_lay_out_as_the_engine_sampled(tokenizer) -> None:
    """PPO's first ratio must be one: the training forward gives the probabilities that actions were drawn with."""
    model = tiny_model(tokenizer)
    rollouts = collect(model, tokenizer, SHORT, [0, 1, 2], Reward.default(), 0)
    batch = experience(model, rollouts)
    with torch.no_grad():
        hidden = model.hidden_states(batch.tokens, batch.audio)[batch.row, batch.at]
        decisions = model.decision_log_probs(hidden[batch.is_decision])
        contents = model.content_log_probs(hidden[~batch.is_decision])
    got = torch.empty(len(batch.log_prob))
    got[batch.is_decision] = decisions.gather(1, batch.action[batch.is_decision].unsqueeze(1)).squeeze(1)
    got[~batch.is_decision] = contents.gather(1, batch.action[~batch.is_decision].unsqueeze(1)).squeeze(1)
    assert (~batch.is_decision).any(), "the test must see replies"
    torch.testing.assert_close(got, batch.log_prob, atol=1e-4, rtol=0)
    for rollout in rollouts:
        assert sum(rollout.reward) == pytest.approx(rollout.trace.total_reward)
        assert all(isinstance(turn, Turn) for turn in rollout.turns)


def reinforced(model, tokenizer, reward: Reward, out: Path, **changes: float) -> list[float]:
    """Return the mean rewards of a few iterations of PPO on streams in which nothing deserves a reply."""
    streams = Composed(ProactiveScenarios(Foley(), 0.0, (20, 20)), range(16), 1)
    usual = {"iterations": 5, "epochs": 2, "learning_rate": 3e-3, "kl_coef": 0.0, "content_coef": 0.0}
    config = ReinforcementConfig(episodes_per_iteration=16, minibatches=2, **{**usual, **changes})
    done = train_ppo(model, tokenizer, Steady(streams), range(16), reward, config, out, 0)
    assert 0.0 < done.rollout_share < 1.0
    return [value for _, value in done.curve]


def test_ppo_learns_to_keep_silent_where_speaking_costs(tokenizer, tmp_path: Path) -> None:
    """A policy that speaks at random loses a point a time; a few iterations make it speak less and earn more."""
    curve = reinforced(tiny_model(tokenizer), tokenizer, Reward.default(), tmp_path)
    assert len(curve) == 5
    assert np.mean(curve[-2:]) > curve[0] + 1.0


class Talkative:
    """A user's reward: a point for every reply, whenever it comes."""

    def value(self, moment: Moment) -> float:
        return 1.0 if moment.started is not None else 0.0


def test_ppo_learns_to_speak_where_speaking_pays(tokenizer, tmp_path: Path) -> None:
    """Under a reward that the critic's situations say nothing of, replies become more frequent."""
    model = tiny_model(tokenizer)
    model.decision_head.bias.data.fill_(-2.5)
    reward = Reward([("talk", 1.0, Talkative())])
    curve = reinforced(model, tokenizer, reward, tmp_path, decision_learning_rate=3e-2)
    assert np.mean(curve[-2:]) > curve[0] + 0.5


class LowLetters:
    """A user's reward on the words: the share of a reply's characters that are small letters up to m."""

    of_text = True

    def value(self, moment: Moment) -> float:
        text = "" if moment.ended is None else moment.ended.text
        return sum("a" <= character <= "m" for character in text) / len(text) if text else 0.0


def test_ppo_learns_what_to_say(tokenizer, tmp_path: Path) -> None:
    """The decision is left as it is; what is said changes, because the reply's tokens are credited."""
    reward = Reward([("low", 1.0, LowLetters())])
    wordy = {"decision_coef": 0.0, "content_coef": 1.0, "epochs": 6, "learning_rate": 1e-2}
    curve = reinforced(tiny_model(tokenizer), tokenizer, reward, tmp_path, **wordy)
    assert np.mean(curve[-2:]) > 1.25 * curve[0]
