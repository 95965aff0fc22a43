"""The model card of a policy folder: what others have to know before they use it, as the hub reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from huggingface_hub import EvalResult, ModelCardData

from envs.clock import CHUNK_S, SAMPLE_RATE
from envs.metrics import MEANINGS, Metric
from policies.configuration_lalm import LALMConfig

TASK = "audio-text-to-text"  # the hub's nearest: audio goes in, text comes out, and text may ask for something
_TAGS = ("soundflow", "audio", "streaming", "proactive", "turn-taking")

_CLOCK = (
    "A cue is a moment that deserves a reply. The clock is that of the simulated stream, in which a reply begins at the"
    " end of the chunk that it was decided after: what computing takes is not in it. Intervals are 95 %, of a bootstrap"
    " over whole streams; the count is what a number is over."
)
_OUT_OF_SCOPE = (
    "It is no safety device and no medical device: it misses sounds and takes some for others, so nothing on which"
    " health, property or a life depends may rest on it. It is not made to identify people, to write down what they"
    " say, or to listen to anybody who does not know of it."
)
_LOADING = """```python
from pathlib import Path

from envs.audio import stream_chunks
from policies.lalm_policy import LALMPolicy

policy = LALMPolicy.from_pretrained(".")  # this folder, or its id on the hub
session = policy.engine.open()
for chunk in stream_chunks(Path("recording.wav")):  # 0.4 s each, float32 [6400] at 16 kHz, or as they arrive
    policy.engine.push(session, chunk)
    for event in policy.engine.step():
        print(f"{event.time_s:.1f} s", event.decision, policy.tokenizer.decode(event.token_ids))
```

`soundflow listen recording.wav --policy FOLDER` does the same."""


@dataclass(frozen=True)
class Suite:
    """What a policy was judged on, and how it did."""

    name: str  # an identifier, "held_out"
    title: str  # what it consists of, in one line
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class CardFacts:
    """What only those know who made the policy.

    Attributes:
        name: Of the policy, for its heading and the hub's list of results.
        summary: What it is, a sentence or two.
        data: What it was trained on, Markdown.
        training: How it was trained, Markdown.
        limitations: What is known not to work, Markdown.
        suites: What it was judged on; none where nothing was measured.
        license: An identifier of the hub; "other" goes with a `license_name`.
        license_name: The name of a licence that the hub has no identifier for.
        base_model: The id on the hub of what it was made of.
        tags: More of them.
    """

    name: str
    summary: str
    data: str
    training: str
    limitations: str
    suites: tuple[Suite, ...] = ()
    license: str = "unknown"
    license_name: str | None = None
    base_model: str | None = None
    tags: tuple[str, ...] = ()


def model_card(facts: CardFacts, config: LALMConfig) -> str:
    """Return the card of a policy: YAML metadata as the hub reads it, then Markdown."""
    layout = config.token_layout
    shape = (
        f"It hears {SAMPLE_RATE // 1000} kHz mono audio in chunks of {CHUNK_S} s; after each it waits, responds, or"
        f" goes on with its reply, {layout.tokens_per_chunk} tokens a chunk (the task is that of arXiv 2606.05121). It"
        f" looks back {layout.window_chunks} chunks, {layout.window_chunks * CHUNK_S:.1f} s. Backbone"
        f" `{config.backbone}`: {config.text_config['num_hidden_layers']} layers of"
        f" {config.text_config['hidden_size']} in the language model."
    )
    use = (
        "Research and prototypes of always-on listeners, which have to decide when to speak and what to say; and as a"
        " beginning to train from."
    )
    sections = {
        "What it is": f"{facts.summary} {shape}",
        "Intended use": f"{use}\n\n**Out of scope.** {_OUT_OF_SCOPE}",
        "Training data": facts.data,
        "Training": facts.training,
        "Results": _results(facts.suites),
        "How to load it": f"With SoundFlow {version('soundflow')}:\n\n{_LOADING}",
        "Limitations": facts.limitations,
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{_metadata(facts).to_yaml()}\n---\n\n# {facts.name}\n\n{body}\n"


def unmeasured_card(config: LALMConfig) -> str:
    """Return the card of a policy of which no more is known than its configuration says."""
    checkpoint = config.origin.get("checkpoint")
    unknown = "Whether it was trained on after that is not recorded."
    if checkpoint is None:
        return model_card(
            CardFacts(
                name="A SoundFlow policy",
                summary="A listener that decides when to speak.",
                data="Not recorded.",
                training="Not recorded.",
                limitations="Nothing was measured: judge it on streams like yours with `soundflow evaluate`.",
            ),
            config,
        )
    return model_card(
        CardFacts(
            name=f"{checkpoint} as a SoundFlow policy",
            summary=f"Made of the checkpoint `{checkpoint}`. {config.origin.get('note', '')}".strip(),
            data=f"That of `{checkpoint}`: see its own card. {unknown}",
            training=f"That of `{checkpoint}`. {unknown}",
            limitations="Nothing was measured after the conversion, and the limits of the checkpoint are limits of this"
            " policy. Its licence holds on: read it before this is passed on.",
            license="other",
            license_name="that-of-the-checkpoint",
            base_model=checkpoint if "/" in checkpoint else None,
        ),
        config,
    )


def _metadata(facts: CardFacts) -> ModelCardData:
    results = [
        EvalResult(
            task_type=TASK,
            task_name="Proactive listening",
            dataset_type=f"soundflow-{suite.name.replace('_', '-')}",
            dataset_name=suite.title,
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=round(metric.value, 4),
        )
        for suite in facts.suites
        for name, metric in suite.metrics.items()
        if metric.value is not None and metric.count > 0
    ]
    return ModelCardData(
        language="en",
        license=facts.license,
        license_name=facts.license_name,
        library_name="soundflow",
        pipeline_tag=TASK,
        tags=[*_TAGS, *facts.tags],
        base_model=facts.base_model,
        model_name=facts.name,
        eval_results=results or None,
    )


def _results(suites: tuple[Suite, ...]) -> str:
    if not suites:
        return "Nothing was measured."
    parts = [_CLOCK]
    for suite in suites:
        rows = [
            f"| `{name}` | {_value(metric)} | {_interval(metric)} | {metric.count} | {MEANINGS.get(name, '')} |"
            for name, metric in suite.metrics.items()
        ]
        head = "| metric | value | 95 % interval | count | what it is |\n|---|---|---|---|---|"
        parts.append("\n".join((f"### `{suite.name}`: {suite.title}\n", head, *rows)))
    return "\n\n".join(parts)


def _value(metric: Metric) -> str:
    return "none" if metric.value is None else f"{metric.value:.3f}"


def _interval(metric: Metric) -> str:
    return "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
