"""What is measured between the steps of supervised training, on streams never trained on; and one to listen to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from envs.clock import SAMPLE_RATE
from envs.rendering import render_trace
from envs.scenario import Scenario
from envs.trace import Trace
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from trainers.evaluation import play
from trainers.losses import DualLoss, Tagger
from trainers.packing import pack
from trainers.samples import Collator, SampleBatch, StreamSample

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@torch.no_grad()
def measure(loss: nn.Module, samples: Sequence[StreamSample], max_tokens: int) -> dict[str, float]:
    """Return the losses of a stage on held-out samples, without augmentation or weights.

    A `Tagger` has `L_label`, over the sounds whose label it was trained on. A `DualLoss` has `L_lm` where there are
    replies and, on streams, `L_stream`, the share of right control tokens (`trigger_accuracy`), and the mean of that
    share over the moments to wait and those to respond (`trigger_balanced`), where both occur.
    """
    if isinstance(loss, Tagger):
        samples = [sample for sample in samples if sample.label in loss.head.index]
    if not samples:
        return {}
    model = loss.model
    assert isinstance(model, LALM)
    model.eval()
    collator = Collator(model.layout)
    lengths = [len(sample.sequence) for sample in samples]
    totals = _Totals()
    for indices in pack(lengths, max_tokens, 0, 0):
        batch = collator([samples[i] for i in indices]).to(model.device)
        if isinstance(loss, Tagger):
            totals.add("L_label", loss(batch) * len(indices), len(indices))
        else:
            _add_dual(totals, DualLoss(model, 1.0), batch)
    measured = totals.means()
    if samples[0].label:  # an offline turn has one control token, and no choice
        return {name: value for name, value in measured.items() if name in ("L_label", "L_lm")}
    right = [measured.pop(name) for name in ("silent_right", "response_right") if name in measured]
    return {**measured, **({"trigger_balanced": sum(right) / 2} if len(right) == 2 else {})}


class _Totals:
    """Sums and counts, by name."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Add to a sum; nothing where there is nothing to count."""
        if count:
            self.sums[name] = self.sums.get(name, 0.0) + float(total)
            self.counts[name] = self.counts.get(name, 0) + count

    def means(self) -> dict[str, float]:
        """Return the mean of each name."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}


def _add_dual(totals: _Totals, dual: DualLoss, batch: SampleBatch) -> None:
    hidden, decisions = dual.hidden(batch), batch.decisions[:, 1:]
    lm, stream = dual.parts(batch, hidden)
    num_contents, num_decisions = int(batch.contents.sum()), int(decisions.sum())
    totals.add("L_lm", lm * num_contents, num_contents)
    totals.add("L_stream", stream * num_decisions, num_decisions)
    responded = dual.model.decision_log_probs(hidden[decisions]).argmax(-1) == 1
    expected = batch.tokens.ids[:, 1:][decisions] == dual.model.layout.response
    right = responded == expected
    totals.add("trigger_accuracy", right.sum(), num_decisions)
    totals.add("silent_right", right[~expected].sum(), int((~expected).sum()))
    totals.add("response_right", right[expected].sum(), int(expected.sum()))


def write_listening(
    writer: "SummaryWriter", step: int, model: LALM, tokenizer: ReplyTokenizer, scenario: Scenario
) -> Trace:
    """Play a stream through the engine; give TensorBoard its sound, its picture and what was said. Return the trace."""
    model.eval()
    policy = LALMPolicy(model, tokenizer)
    (trace,) = play(
        policy,
        lambda _: scenario,
        [scenario.seed],
        num_slots=1,
        tokenizer=tokenizer,
        tokens_per_chunk=policy.tokens_per_chunk,
    )
    writer.add_audio("listening/stream", torch.from_numpy(scenario.audio).unsqueeze(0), step, SAMPLE_RATE)
    writer.add_image("listening/picture", render_trace(scenario, trace), step, dataformats="HWC")
    writer.add_text("listening/replies", _replies(trace), step)
    return trace


def _replies(trace: Trace) -> str:
    """Return a Markdown table of what was to be said until when, and what was said."""
    rows = [(cue.ready_s, f"expected until {cue.deadline_s:.1f} s", cue.replies[0]) for cue in trace.cues]
    for reply in trace.replies:
        rows.append((reply.start_s, "answer" if reply.cue is not None else "false alarm", reply.text or "(nothing)"))
    lines = [f"| {second:.1f} | {what} | {text} |" for second, what, text in sorted(rows)]
    return "\n".join(("| second | what | text |", "|---|---|---|", *lines))
