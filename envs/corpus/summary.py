"""What a corpus holds: cues of each ability, rounds a stream, and how much of it is silence."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from envs import ABILITY_NAMES
from envs.abilities import ABILITIES
from envs.clock import CHUNK_S
from envs.corpus.layout import StreamLine, read_lines, shards_of
from envs.palette import ANSWER, FAINT, FONT, INK, RULE, UNWANTED, WANTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOME = {sub_task: ability.name for ability in ABILITIES.values() for sub_task in ability.sub_tasks}
_DPI = 150


@dataclass(frozen=True)
class Summary:
    """Counts over the streams of a corpus.

    Attributes:
        streams: How many there are.
        chunks: How many chunks they have.
        cues: How many of each sub-task, by ability; a mixed stream has cues of many.
        rounds: How many streams have so many cues.
        due_chunks: Chunks after which the timeline has something to say.
        silent_streams: Streams in which it never has.
    """

    streams: int
    chunks: int
    cues: dict[str, dict[str, int]]
    rounds: dict[int, int]
    due_chunks: int
    silent_streams: int

    @property
    def hours(self) -> float:
        """How long the streams are together."""
        return self.chunks * CHUNK_S / 3600.0

    @property
    def silent_chunk_share(self) -> float:
        """Share of the chunks after which nothing is due."""
        return 1.0 - self.due_chunks / max(self.chunks, 1)

    @property
    def silent_stream_share(self) -> float:
        """Share of the streams in which nothing is due."""
        return self.silent_streams / max(self.streams, 1)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the cues by ability, or by sub-task where all are of one ability."""
        counts = {ability: sum(of.values()) for ability, of in self.cues.items()}
        if len(counts) == 1:
            counts = next(iter(self.cues.values()))
        return {name: number / max(sum(counts.values()), 1) for name, number in counts.items()}

    def to_text(self) -> str:
        """Return JSON, with the shares beside the counts."""
        shares = {
            "hours": round(self.hours, 4),
            "shares": {name: round(share, 4) for name, share in self.shares.items()},
            "silent_chunk_share": round(self.silent_chunk_share, 4),
            "silent_stream_share": round(self.silent_stream_share, 4),
        }
        return json.dumps({**asdict(self), **shares}, indent=2) + "\n"

    def table(self) -> str:
        """Return the same numbers as a table to print."""
        total = sum(number for of in self.cues.values() for number in of.values())
        most = max(self.rounds.values(), default=1)
        return "\n".join(
            [
                f"{self.streams} streams, {self.hours:.2f} hours, {total} cues",
                "",
                "share of the cues",
                *(f"  {name:24s} {share:7.1%}" for name, share in self.shares.items()),
                "streams with so many cues",
                *(f"  {k:2d} {'#' * round(30 * n / most):30s} {n:6d}" for k, n in sorted(self.rounds.items())),
                "silence",
                f"  {'chunks with nothing due':24s} {self.silent_chunk_share:7.1%}",
                f"  {'streams with nothing due':24s} {self.silent_stream_share:7.1%}",
            ]
        )


def summarise(folder: Path) -> Summary:
    """Count what the complete shards of a corpus hold.

    Raises:
        ManifestError: naming file and line, when one cannot be used.
    """
    return count(line for shard in shards_of(folder) for _, _, line in read_lines(folder, shard))


def count(lines: Iterable[StreamLine]) -> Summary:
    """Count what streams hold."""
    cues: dict[str, Counter[str]] = {}
    rounds: Counter[int] = Counter()
    chunks = due = silent = 0
    for line in lines:
        for cue in line.cues:
            cues.setdefault(_HOME.get(cue.sub_task, line.ability), Counter())[cue.sub_task] += 1
        rounds[len(line.cues)] += 1
        chunks += line.num_chunks
        due += len({entry.chunk for entry in line.timeline})
        silent += not line.timeline
    order = [*(name for name in ABILITY_NAMES if name in cues), *sorted(cues.keys() - set(ABILITY_NAMES))]
    by_name = {ability: dict(sorted(cues[ability].items())) for ability in order}
    return Summary(rounds.total(), chunks, by_name, dict(sorted(rounds.items())), due, silent)


def draw_summary(summary: Summary) -> bytes:
    """Return a PNG of three panels: share of the cues, rounds a stream, silence. Same summary, same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - `import envs` stays light
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    figure = Figure(figsize=(13.0, 3.6), layout=ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.1), facecolor="white")
    share, rounds, silence = figure.subplots(1, 3, width_ratios=(1.15, 1.15, 1.0))
    _draw_shares(share, summary)
    _draw_rounds(rounds, summary)
    _draw_silence(silence, summary)
    for axes in (share, rounds, silence):
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.tick_params(labelsize=FONT, colors=INK, length=0)
    title = f"{summary.streams:,} streams, {summary.hours:,.2f} hours"
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, color=INK)
    document = BytesIO()
    FigureCanvasAgg(figure).print_figure(document, format="png", dpi=_DPI, metadata={"Software": None})
    return document.getvalue()


def _draw_shares(axes: "Axes", summary: Summary) -> None:
    """Draw a bar for each ability, or for each sub-task of a single one."""
    shares = summary.shares
    single = next(iter(summary.cues)) if len(summary.cues) == 1 else None
    _title(axes, f"cues of {single}, by sub-task" if single else "cues by ability")
    axes.barh(range(len(shares)), list(shares.values()), height=0.62, color=ANSWER)
    for row, share in enumerate(shares.values()):
        axes.text(share, row, f"  {share:.1%}", va="center", fontsize=FONT, color=INK)
    axes.set_yticks(range(len(shares)), [name.replace("_", " ") for name in shares])
    axes.set_ylim(max(len(shares), 4) - 0.4, -0.6)
    axes.set_xlim(0, 1.2 * max(shares.values(), default=1.0))
    axes.set_xticks([])


def _draw_rounds(axes: "Axes", summary: Summary) -> None:
    """Draw how many streams have how many cues."""
    _title(axes, "rounds a stream")
    span = range(min(summary.rounds, default=0), max(summary.rounds, default=0) + 1)
    counts = [summary.rounds.get(k, 0) for k in span]
    axes.bar(span, counts, width=0.82, color=[UNWANTED if k == 0 else ANSWER for k in span])
    for k, number in zip(span, counts, strict=True):
        if number:
            axes.text(k, number, f"{number:,}", ha="center", va="bottom", fontsize=FONT, color=INK)
    axes.set_xticks([k for k in span if len(span) <= 12 or k % 5 == 0])
    axes.set_xlim(span[0] - 0.7, span[-1] + 0.7)
    axes.set_xlabel("cues in the stream", color=FAINT, fontsize=FONT)
    axes.set_yticks([])
    axes.axhline(0, color=RULE, linewidth=1)
    axes.margins(y=0.12)


def _draw_silence(axes: "Axes", summary: Summary) -> None:
    """Draw the share of chunks after which nothing is due, and of streams in which nothing is."""
    _title(axes, "silence")
    shares = (summary.silent_chunk_share, summary.silent_stream_share)
    for row, (share, what) in enumerate(zip(shares, ("chunks", "streams"), strict=True)):
        axes.barh(row, share, height=0.34, color=UNWANTED)
        axes.barh(row, 1.0 - share, left=share, height=0.34, color=WANTED)
        text = f"{share:.1%} of the {what}: nothing is due"
        axes.text(0.0, row - 0.24, text, va="bottom", fontsize=FONT, color=INK)
        axes.text(1.0, row - 0.24, "a reply is due", va="bottom", ha="right", fontsize=FONT, color=WANTED)
    axes.set_ylim(1.3, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([])


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, loc="left", fontsize=FONT + 1.5, color=FAINT)
