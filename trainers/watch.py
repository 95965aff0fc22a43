"""Show one episode: as a page with its sound, a picture, or a video."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

from envs.errors import ConfigError, did_you_mean
from envs.files import write_bytes
from envs.rendering import draw_trace, render_ansi
from envs.stream_env import default_scenarios
from envs.tokenizer import ByteTokenizer, TextTokenizer
from policies.base import Policy
from policies.oracle import OraclePolicy
from trainers.episode_view import EpisodeView
from trainers.evaluation import play
from trainers.run_folder import check_out
from trainers.video import ffmpeg, write_video

_ORACLE_TOKENS = 32  # bytes a chunk: the pace of somebody who reads aloud fast


def watch(ability: str, sub_task: str | None, seed: int, out: Path, policy_dir: Path | None = None) -> str:
    """Play the scenario of a seed and write what happened to `out`.

    Args:
        ability: One of `envs.ABILITY_NAMES`.
        sub_task: Of the ability, or None for any.
        seed: Of the scenario.
        out: A .html, .png or .mp4 file.
        policy_dir: Who plays: a policy folder; None: an oracle that says what the timeline says.

    Returns:
        The episode as text.

    Raises:
        ConfigError: when `out` has another ending, or a video cannot be made.
        ScenarioError, SpeechError, PolicyError: when the scenario or the policy cannot be had.
    """
    write = WRITERS.get(out.suffix.lower())
    if write is None:
        raise ConfigError(f"--out {out}: {out.suffix!r} is no kind of picture{did_you_mean(out.suffix, WRITERS)}")
    check_out(out.parent)
    if out.suffix.lower() == ".mp4":
        ffmpeg()  # asked for before a whole episode is played
    scenario = default_scenarios(ability, sub_task)(seed)
    policy: Policy
    tokenizer: TextTokenizer = ByteTokenizer()
    if policy_dir is None:
        player, tokens = "an oracle", _ORACLE_TOKENS
        policy = OraclePolicy(lambda _: scenario, 1, tokenizer, tokens)
    else:
        from policies.lalm_policy import LALMPolicy  # noqa: PLC0415 - torch is heavy, and an oracle needs none

        player, loaded = str(policy_dir), LALMPolicy.from_pretrained(policy_dir)
        policy, tokenizer, tokens = loaded, loaded.tokenizer, loaded.tokens_per_chunk
    (trace,) = play(policy, lambda _: scenario, [seed], num_slots=1, tokenizer=tokenizer, tokens_per_chunk=tokens)
    what = ability if sub_task is None else f"{ability}, {sub_task.replace('_', ' ')}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(out, EpisodeView(f"{what}, seed {seed}, played by {player}", scenario, trace))
    boxes = any("missing from font" in str(warning.message) for warning in caught)
    hint = "\nSome characters have no font here and are drawn as boxes; install Noto Sans CJK." if boxes else ""
    return render_ansi(scenario, trace) + hint


def _write_page(path: Path, episode: EpisodeView) -> None:
    from trainers.report import write_episode  # noqa: PLC0415 - only where a page is asked for

    write_episode(path, episode)


def _write_picture(path: Path, episode: EpisodeView) -> None:
    picture = io.BytesIO()
    draw_trace(episode.scenario, episode.trace).savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())


WRITERS: dict[str, Callable[[Path, EpisodeView], None]] = {
    ".html": _write_page,
    ".png": _write_picture,
    ".mp4": write_video,
}
