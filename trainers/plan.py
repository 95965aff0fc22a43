"""Show what a planner plans: each scene in words, the sound found for each part of it, and what was rejected."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from envs.curation.grounding import Grounded
from envs.curation.scenarios import CuratedScenarios, CuratedScene, Planner
from envs.foley import Foley
from trainers.clips import ClipFolder

_ROLE_WIDTH, _TEXT_WIDTH = 12, 44


def show_plans(
    planner: Planner, clips: ClipFolder | None, seeds: Sequence[int], out: TextIO, as_json: bool = False
) -> None:
    """Plan the scenes of `seeds` and print each with the clips that it was grounded in; the counts come last.

    Raises:
        SoundFlowError: when the clips cannot be read, or the planner has no plan.
    """
    scenarios = CuratedScenarios(planner, Foley() if clips is None else clips.read())
    shown = []
    for seed in seeds:
        for scene in scenarios.scenes(seed):
            if as_json:
                shown.append(_scene_json(seed, scene))
            else:
                print(_scene_text(seed, scene), file=out, flush=True)
    if as_json:
        print(json.dumps({"scenes": shown, "counts": dict(sorted(scenarios.counts.items()))}, indent=2), file=out)
    else:
        print(counts_text(scenarios.counts), file=out)


def _scene_text(seed: int, scene: CuratedScene) -> str:
    lines = [f"scene {seed}: {scene.outline.place}"]
    for event, grounded in zip(scene.outline.sub_events, scene.grounded, strict=True):
        role = "all through" if event.whole_scene else event.role
        lines.append(f"  {role:{_ROLE_WIDTH}s} {event.description:{_TEXT_WIDTH}s} {_found_text(grounded)}")
    rules = [f"{_name(scene, first)} before {_name(scene, then)}" for first, then in scene.outline.order]
    if rules:
        lines.append(f"  order: {', '.join(rules)}")
    return "\n".join([*lines, ""])


def _found_text(grounded: Grounded | None) -> str:
    if grounded is None:
        return "-> left out"
    clip = grounded.clip
    where = "" if clip.origin == "foley" else f" {clip.origin}"
    return f"-> {clip.label}{where}, {clip.seconds:.1f} s, {grounded.how} ({grounded.score:.2f})"


def _name(scene: CuratedScene, index: int) -> str:
    return f'"{scene.outline.sub_events[index].description}"'


def counts_text(counts: Counter[str]) -> str:
    """Return what became of clips and answers, the most frequent first."""
    lines = [f"  {number:5d} {name}" for name, number in counts.most_common()]
    return "\n".join(["clips and answers, by what became of them:", *lines])


def _scene_json(seed: int, scene: CuratedScene) -> dict[str, Any]:
    grounded = [None if g is None else _grounded_json(g) for g in scene.grounded]
    return {"seed": seed, "outline": asdict(scene.outline), "grounded": grounded}


def _grounded_json(grounded: Grounded) -> dict[str, Any]:
    clip = grounded.clip
    return {
        "label": clip.label,
        "caption": clip.caption,
        "decision": clip.decision,
        "origin": clip.origin,
        "seconds": round(clip.seconds, 3),
        "how": grounded.how,
        "score": round(grounded.score, 3),
    }
