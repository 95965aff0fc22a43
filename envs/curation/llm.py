"""The planner that asks a language model, in the paper's three roles: plan, refine, verify."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from envs.chat import ChatEndpoint, Message, NoAnswerError, Try
from envs.curation.answers import Annotation, read_plan, read_refinement, read_verdict
from envs.curation.outline import LEAST, MOST, Outline, SubEvent
from envs.curation.verification import DURATION, Hearing, Verdict
from envs.errors import AnswerError, NoPlanError, PlanningError
from envs.foley import Foley
from envs.planning import LONGEST_CLIP_S, RESPOND_SHARE, SILENT_SCENES
from envs.scenario import Decision
from envs.sources import Candidate

T = TypeVar("T")
AgentRole = Literal["plan", "refine", "verify"]
_BAG = 14  # annotations
_SEEDS = 2**31

_PROMPTS: dict[AgentRole, str] = {
    "plan": f"""You plan scenes for audio streams. You get unrelated annotations of sounds, numbered from 0; "(reply)"
marks those that deserve a spoken warning. Choose those that can be heard at one place and time, and plan one coherent
scene; where two good groups exclude each other, plan two scenes. Rules for each scene:
- {LEAST} to {MOST} sub_events. role is "foreground" (heard one after another, in the order of the list),
  "background" or "ambient" (both lie under the foreground).
- At least one ambient sub-event has "whole_scene": true: it lasts from beginning to end. Add one if none suits.
- At least one foreground sub-event; at most half of the foreground are "(reply)" annotations; these are never
  background or ambient. Two neighbours in the foreground never have the same annotation.
- "order" lists pairs of indexes into the scene's sub_events: the first has to be heard before the second, by cause
  and effect. It may name foreground sub-events, and a whole_scene one as the first.
- "exclude" lists pairs of annotation numbers that cannot be heard in the same scene; no scene holds both of a pair.
Answer with one JSON object:
{{"exclude": [[3, 5]], "scenes": [{{"place": "kitchen", "sub_events": [{{"annotation": 3, "description": "the tap runs",
"role": "foreground", "seconds": 3.0, "whole_scene": false}}], "order": [[0, 2]]}}]}}
"annotation" is null for a sub-event that you add. "seconds" is how long the sound usually lasts.""",
    "refine": """You prepare the search for sounds. You get a scene with its sub-events. For each of them, in the same
order, give "query": 4 to 12 words to find a recording with, by its caption; "caption": what is heard, as a short
clause, to synthesise it from where none is found; "tags": labels that a fitting recording may have, such as "dog".
Answer with one JSON object: {"sub_events": [{"query": "a tap runs into a metal sink", "caption": "a tap runs",
"tags": ["faucet", "tap"]}]}""",
    "verify": f"""You judge whether a recording may stand for a sound that was asked for, by what is known of it. Check
"identity": label and caption name the same sound; "cleanliness": its quiet frames lie well below its loud ones, unless
the sound is a steady one; "duration": {DURATION[0]} to {DURATION[1]} times the seconds asked for; "continuity": no long
silence inside, not cut off. verdict is "accept"; "reprocess" where denoising, cutting silence or shortening would help;
or "reject". Answer with one JSON object: {{"verdict": "accept"}} or {{"verdict": "reject", "reason": "identity"}}.""",
}


@dataclass(frozen=True)
class LLMPlanner:
    """Plans scenes with a language model behind any OpenAI-compatible endpoint.

    An answer that is no JSON, or breaks a rule, is sent back with what is wrong with it. Whether the same seed gives
    the same plan again is up to the endpoint.

    Attributes:
        base_url: Such as "http://127.0.0.1:8000/v1".
        model: As the endpoint calls it.
        api_key_env: The environment variable that holds the API key, where one is needed.
        retries: More tries after a bad answer.
        timeout_s: Seconds to wait for an answer.
        temperature: Of plan and refine; a verdict is asked for at 0.
        pause_s: Before the next try where the endpoint is busy; doubled each time.
        counts: Answers refused, as "ROLE: REASON".

    Raises:
        PlanningError: when the base URL is none.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    retries: int = 2
    timeout_s: float = 120.0
    temperature: float = 0.7
    pause_s: float = 1.0
    counts: Counter[str] = field(default_factory=Counter, compare=False)

    def __post_init__(self) -> None:
        try:
            _ = self._endpoint
        except AnswerError as error:  # a base URL that is none
            raise PlanningError(str(error), error.kind) from error

    @cached_property
    def _endpoint(self) -> ChatEndpoint:
        return ChatEndpoint(self.base_url, self.model, self.api_key_env, self.timeout_s)

    def outlines(
        self, rng: np.random.Generator, respond_share: float = RESPOND_SHARE, candidates: Sequence[Candidate] = ()
    ) -> tuple[Outline, ...]:
        """Plan one scene, or two, from a bag of what the candidates are annotated with; default: the built-in sounds.

        Raises:
            PlanningError: naming the endpoint, the role and the last reason, when no usable answer came.
        """
        bag = _draw_bag(rng, respond_share, candidates or Foley().candidates())
        seed = int(rng.integers(_SEEDS))
        lines = [f"{i}: {a.text}{' (reply)' if a.decision == 'RESPOND' else ''}" for i, a in enumerate(bag)]
        scenes = self._ask("plan", "\n".join(lines), lambda text: read_plan(text, bag, respond_share), seed)
        return tuple(self._refine(scene, seed) for scene in scenes)

    def verify(self, event: SubEvent, hearing: Hearing) -> Verdict:
        """Let the model judge a clip by its words and by what was measured in it.

        Raises:
            PlanningError: as `outlines`.
        """
        clip = hearing.clip
        seconds = "any: it is looped" if event.whole_scene else min(event.seconds, LONGEST_CLIP_S)
        asked = {"description": event.description, "seconds": seconds, "role": event.role, "tags": event.tags}
        found = {
            "label": clip.label,
            "caption": clip.caption,
            "seconds": round(clip.seconds, 2),
            "similarity_of_captions": round(hearing.score, 2),
            "quiet_frames_below_loud_ones_db": round(hearing.clean_db, 1),
            "has_long_silence": hearing.has_gap,
            "cut_off": hearing.is_cut,
        }
        return self._ask("verify", json.dumps({"asked": asked, "recording": found}), read_verdict, 0)

    def _refine(self, outline: Outline, seed: int) -> Outline:
        events = [
            {"description": event.description, "role": event.role, "annotation": event.annotation}
            for event in outline.sub_events
        ]
        request = json.dumps({"place": outline.place, "sub_events": events})
        return self._ask("refine", request, lambda text: read_refinement(text, outline), seed)

    def _ask(self, role: AgentRole, request: str, read: Callable[[str], T], seed: int) -> T:
        messages: list[Message] = [{"role": "system", "content": _PROMPTS[role]}, {"role": "user", "content": request}]

        def watch(made: Try) -> None:
            if made.error is not None:
                self.counts[f"{role}: {made.error.kind}"] += 1

        try:
            return self._endpoint.ask(
                messages,
                read,
                watch,
                about=repr(role),
                temperature=0.0 if role == "verify" else self.temperature,
                seed=seed,
                retries=self.retries,
                pause_s=self.pause_s,
            )
        except NoAnswerError as error:
            raise NoPlanError(str(error), error.kind) from error
        except AnswerError as error:
            raise PlanningError(str(error), error.kind) from error


def _draw_bag(rng: np.random.Generator, respond_share: float, candidates: Sequence[Candidate]) -> list[Annotation]:
    """Draw annotations of different sounds, of which `respond_share` deserve a reply, or none at times."""
    share = 0.0 if rng.random() < SILENT_SCENES else respond_share
    known = [Annotation(f"{one.caption or one.label} [{one.label}]", one.decision) for one in candidates]
    decks: dict[Decision, list[Annotation]] = {"RESPOND": [], "IGNORE": []}
    for annotation in dict.fromkeys(known):
        decks[annotation.decision].append(annotation)
    bag = []
    for _ in range(_BAG):
        deck = decks["RESPOND" if rng.random() < share else "IGNORE"]
        if deck:
            bag.append(deck.pop(int(rng.integers(len(deck)))))
    return bag
