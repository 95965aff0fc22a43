"""The model cards of policies that a run made: its data, its configuration and its own results."""

from collections import Counter
from dataclasses import asdict

import yaml

from envs.clip_library import ClipLibrary
from envs.sound_classes import SOUND_CLASSES
from policies.model_card import CardFacts, Suite, model_card
from policies.modeling_lalm import LALM
from trainers.config import QuickstartConfig, ReinforcementConfig
from trainers.results import Results

_TITLES = {
    "held_out": "streams of built-in sounds, with seeds never trained on",
    "real_held_out": "streams made only of recordings held out of training, whole recordings and speakers at a time",
}


def quickstart_card(
    policy: str, config: QuickstartConfig, model: LALM, results: Results, recordings: ClipLibrary | None
) -> str:
    """Return the model card of a quickstart's policy.

    Args:
        policy: "supervised" or "ppo", as `results` has it.
        config: Of the run.
        model: The policy's.
        results: Of the run, so far as they are there; those of other policies have no place in it.
        recordings: What the clip folder gave for training; None without one.
    """
    reinforced, heard = policy == "ppo", recordings if config.scenes.real_share > 0 else None
    suites = tuple(
        Suite(name, f"{table[policy]['mean_reward'].count} {_TITLES.get(name, 'streams')}", table[policy])
        for name, table in results.items()
        if policy in table
    )
    facts = CardFacts(
        name=f"SoundFlow quickstart, {'reinforced with PPO' if reinforced else 'supervised'}, seed {config.seed}",
        summary=(
            f"A listener of {model.num_parameters() / 1e6:.1f} million parameters, trained from nothing to speak when a"
            " sound deserves a reply, as a smoke alarm does, and to stay silent otherwise."
        ),
        data=_data(heard),
        training=_training(config, reinforced),
        limitations=_limitations(heard is not None),
        suites=suites,
        license="apache-2.0" if heard is None else "other",
        license_name=None if heard is None else "see-the-recordings-licences",
        tags=("reinforcement-learning", "ppo") if reinforced else (),
    )
    return model_card(facts, model.config)


def reinforced_card(
    began_as: str,
    seed: int,
    ppo: ReinforcementConfig,
    streams: str,
    configuration: str,
    model: LALM,
    results: Results,
    recordings: ClipLibrary | None,
) -> str:
    """Return the model card of a policy that a run of its own reinforced.

    Args:
        began_as: The policy folder that the run began with.
        seed: Of the run.
        ppo: What was optimised, and how.
        streams: On which abilities or corpora, by weight.
        configuration: Of the run, as YAML.
        model: The policy's.
        results: Of the run, the policy under the name "after".
        recordings: What the clip folder gave for training; None without one.
    """
    how = "GRPO" if ppo.algorithm == "grpo" else "PPO"
    suites = tuple(
        Suite(suite, f"{table['after']['mean_reward'].count} {_title(suite)}", table["after"])
        for suite, table in results.items()
    )
    heard = "streams of built-in sounds" if recordings is None else "streams of built-in sounds and of recordings"
    table = "" if recordings is None else f"\n\n{_licences(recordings)}"
    facts = CardFacts(
        name=f"A SoundFlow policy reinforced with {how}, seed {seed}",
        summary=f"A policy whose timing and words were reinforced with {how} on an environment's reward.",
        data=f"It began as the policy `{began_as}`, whose own card says what it had learned from, and its licence. It"
        f" was reinforced on {heard}; by weight: {streams}.{table}",
        training=f"{how}: {ppo.iterations} iterations of {ppo.episodes_per_iteration} episodes. The whole"
        f" configuration:\n\n```yaml\n{configuration}```",
        limitations="Those of the policy that it began as. It was judged on composed streams, not in rooms, with their"
        " echoes, distances and microphones; and a reward that was optimised may have been satisfied in a way that"
        " nobody meant: listen to it.",
        suites=suites,
        tags=("reinforcement-learning", ppo.algorithm),
    )
    return model_card(facts, model.config)


def _title(suite: str) -> str:
    """Return what the streams of a suite of `kind: ppo` are; a part of its data mix has a suite of its name."""
    part = suite.removeprefix("held_out_")
    return _TITLES.get(suite, "streams" if part == suite else f"streams of {part}, none of them trained on")


def _data(recordings: ClipLibrary | None) -> str:
    built_in = f"Streams composed of the {len(SOUND_CLASSES)} kinds of sound that SoundFlow synthesises"
    if recordings is None:
        return f"{built_in}. No recording was used; the weights are under SoundFlow's own licence."
    return (
        f"{built_in}, and of {len(recordings)} recordings under the licences that their manifest names. Who passes the"
        f" weights on has to ask what these allow.\n\n{_licences(recordings)}"
    )


def _licences(recordings: ClipLibrary) -> str:
    counts = Counter((r.source or "not named", r.licence or "not named") for r in recordings.recordings)
    rows = [f"| {_cell(source)} | {_cell(licence)} | {n} |" for (source, licence), n in sorted(counts.items())]
    return "\n".join(("| source | licence | recordings |", "|---|---|---|", *rows))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


def _training(config: QuickstartConfig, reinforced: bool) -> str:
    stages = config.supervised
    steps = ", ".join(
        f"{name} {stage.steps} steps of {stage.max_tokens_per_batch} tokens"
        for name, stage in (("hearing", stages.hearing), ("format", stages.format), ("streams", stages.streams))
    )
    ppo = (
        f" Then PPO on the environment's reward: {config.ppo.iterations} iterations of"
        f" {config.ppo.episodes_per_iteration} episodes."
        if reinforced
        else ""
    )
    return (
        f"`soundflow quickstart`, seed {config.seed}: {config.scenes.train_count} streams, three supervised stages"
        f" ({steps}), the decision's threshold found on {config.scenes.validation_count} validation streams.{ppo} The"
        f" whole configuration:\n\n```yaml\n{yaml.safe_dump(asdict(config), sort_keys=False)}```"
    )


def _limitations(recordings: bool) -> str:
    known = "synthesised sounds and the recordings above" if recordings else "synthesised sounds only"
    return (
        f"It knows {known}; others are new to it. It was judged on composed streams, not in rooms, with their echoes,"
        " distances and microphones. It says, in English, the replies that it was taught, and not much else; it"
        " understands no speech, and forgets what it heard before its window."
    )
