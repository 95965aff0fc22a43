"""Pictures of an episode: spectrogram, events, cue windows, decisions, replies, reward on one time axis."""

import logging
from collections.abc import Iterable
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_S, due_chunk
from envs.episode import RESPOND, TOKENS, WAIT
from envs.log_mel import log_mel, mel_bin_of
from envs.palette import ALARM, ANSWER, FAINT, FONT, INK, RULE, UNWANTED, WANTED
from envs.scenario import Event, Scenario
from envs.trace import Reply, StepRecord, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "PingFang SC", "Microsoft YaHei", "SimHei", "Arial Unicode MS",
)  # fmt: skip
DPI = 100  # pixels an inch of `render_trace`
_ROLES = ("foreground", "background", "ambient")


def draw_trace(scenario: Scenario, trace: Trace, width: float = 14.0, height: float = 8.0) -> "Figure":
    """Return a matplotlib figure of an episode, finished or not; needs no display, touches no global state.

    Args:
        scenario: The scenario played, for its waveform.
        trace: What happened; where it holds no probabilities, the decisions alone are drawn.
        width: In inches.
        height: In inches.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - `import envs` stays light

    with rc_context({"font.family": _fonts()}):
        return _draw(scenario, trace, width, height)


@cache
def _fonts() -> list[str]:
    """Return the fonts to draw with: matplotlib's own, then one with Chinese characters, where the system has one."""
    from matplotlib.font_manager import fontManager  # noqa: PLC0415 - `import envs` stays light

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font without bold letters is no news
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _CHINESE_FONTS if name in installed][:1]]


def _draw(scenario: Scenario, trace: Trace, width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - `import envs` stays light
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    lanes = _event_lanes(trace.events)
    second_width = max(width - 1.6, 1.0) / max(scenario.duration_s, CHUNK_S)  # inches
    rows = _reply_rows(trace, second_width)
    layout = ConstrainedLayoutEngine(hspace=0.03, h_pad=0.05)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    weighs = any(p is not None for p in trace.probabilities)
    heights = (
        3.4,
        0.42 * (max(lanes) + 2 if lanes else 2),
        1.5 if weighs else 0.35,
        0.45 * (max(rows, default=0) + 1),
        1.3,
    )
    spectrum, events, decisions, replies, reward = figure.subplots(5, 1, sharex=True, height_ratios=heights)
    _draw_spectrogram(spectrum, scenario)
    _draw_events(events, trace, lanes, second_width)
    _draw_decisions(decisions, trace)
    _draw_replies(replies, trace, rows, second_width)
    _draw_reward(reward, trace)
    for axes in (events, decisions, replies, reward):
        _quieten(axes, trace)
    reward.set_xlim(0, scenario.duration_s)
    reward.set_xticks(np.arange(0, scenario.duration_s + 1e-6, 2 if scenario.duration_s <= 40 else 10))
    reward.set_xlabel("seconds", color=FAINT, fontsize=FONT)
    _draw_title(figure, trace)
    return figure


def render_trace(scenario: Scenario, trace: Trace, width: int = 1400, height: int = 800) -> NDArray[np.uint8]:
    """Return a picture of the episode so far: uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - `import envs` stays light

    canvas = FigureCanvasAgg(draw_trace(scenario, trace, width / DPI, height / DPI))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def figure_svg(scenario: Scenario, trace: Trace) -> str:
    """Return the same picture as an SVG document that holds no date: same episode, same text."""
    from matplotlib import rc_context  # noqa: PLC0415 - `import envs` stays light

    document = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "soundflow"}):
        draw_trace(scenario, trace).savefig(document, format="svg", metadata={"Date": None})
    return document.getvalue()


def render_ansi(scenario: Scenario, trace: Trace) -> str:
    """Return the episode so far as text: a line of sounds, one of actions, then the replies and the reward.

    One character is one chunk. Sounds: ``!`` deserves a reply, ``-`` does not. Actions: ``.`` waits, ``R``
    responds, ``~`` goes on, ``x`` did not fit.
    """
    sounds = ["."] * scenario.num_chunks
    for event in scenario.events:
        if event.role == "foreground":
            last = min(due_chunk(event.end_s), scenario.num_chunks - 1)
            for i in range(min(due_chunk(event.onset_s + 1e-6), last), last + 1):
                sounds[i] = "!" if event.decision == "RESPOND" else "-"
    actions = ["x" if step.invalid else ".R~"[step.kind] for step in trace.steps]
    said = [f"{r.start_s:6.1f} s  {_describe(r, trace)}: {printable(r.text) or '...'}" for r in trace.replies]
    return "\n".join(
        [
            f"sound  {''.join(sounds)}",
            f"agent  {''.join(actions)}",
            *said,
            f"reward {trace.total_reward:+.2f}",
        ]
    )


def _describe(reply: Reply, trace: Trace) -> str:
    """Return what a reply answers and how late it is."""
    if reply.cue is None:
        return "false alarm"
    cue = trace.cues[reply.cue]
    return f"answers {cue.label.replace('_', ' ')} {reply.start_s - cue.ready_s:+.1f} s"


def _event_lanes(events: Iterable[Event]) -> list[int]:
    """Return a lane for each event, so that none overlap and the roles stand one below the other."""
    events = list(events)
    lanes = [0] * len(events)
    base = 0
    for role in _ROLES:
        free_s: list[float] = []  # when each lane of this role is free again
        for index in sorted(range(len(events)), key=lambda i: events[i].onset_s):
            event = events[index]
            if event.role != role:
                continue
            lane = next((k for k, end in enumerate(free_s) if end <= event.onset_s + 1e-6), len(free_s))
            free_s[lane : lane + 1] = [event.end_s]
            lanes[index] = base + lane
        base += len(free_s)
    return lanes


def _reply_rows(trace: Trace, second_width: float) -> list[int]:
    """Return a row for each reply, so that their texts do not run into each other."""
    rows: list[int] = []
    free_s: list[float] = []
    for reply in trace.replies:
        left, right = _text_span(reply, trace, second_width)  # texts at the picture's end move left
        row = next((k for k, end in enumerate(free_s) if end <= left), len(free_s))
        free_s[row : row + 1] = [right + 0.3]
        rows.append(row)
    return rows


def _caption(reply: Reply, trace: Trace) -> str:
    """Return what a reply said and how long after `ready_s`."""
    text = printable(reply.text)
    if reply.cue is None:
        return text
    return f"{text}  ({reply.start_s - trace.cues[reply.cue].ready_s:+.1f} s)"


def printable(text: str) -> str:
    """Return a text as one line that no terminal obeys and every font can draw: a model may write anything."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _text_span(reply: Reply, trace: Trace, second_width: float) -> tuple[float, float]:
    """Return from when to when a reply's text is drawn: from its start, or ending with the picture."""
    length_s = _text_width(_caption(reply, trace)) / second_width + 0.2
    left = max(min(reply.start_s, trace.num_chunks * CHUNK_S - length_s), 0.0)
    return left, max(left + length_s, reply.end_s or 0.0)


def _text_width(text: str) -> float:
    """Return about how many inches a text takes in the picture's font."""
    return len(text) * FONT * 0.52 / 72


def _draw_title(figure: "Figure", trace: Trace) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - `import envs` stays light

    answered = sum(r.cue is not None for r in trace.replies)
    figure.suptitle(
        f"{trace.ability}, scenario {trace.seed}:  {answered} of {len(trace.cues)} cues answered,  "
        f"false alarms: {len(trace.replies) - answered},  reward {trace.total_reward:+.2f}",
        x=0.012, ha="left", fontsize=12, color=INK,
    )  # fmt: skip
    patches = [
        Patch(color=WANTED, label="deserves a reply"),
        Patch(color=UNWANTED, label="does not"),
        Patch(color=ANSWER, label="answer"),
        Patch(color=ALARM, label="false alarm"),
    ]
    figure.legend(
        handles=patches, loc="upper right", ncols=4, frameon=False, fontsize=FONT, labelcolor=INK,
        handlelength=1.0, handleheight=0.8, columnspacing=1.4,
    )  # fmt: skip


def _draw_spectrogram(axes: "Axes", scenario: Scenario) -> None:
    frames = log_mel(scenario.audio)
    low, high = np.percentile(frames, (3, 99.8))
    axes.imshow(
        frames.T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=max(high, low + 1e-3),
        extent=(0.0, scenario.duration_s, -0.5, frames.shape[1] - 0.5), interpolation="bilinear",
    )  # fmt: skip
    hertz = np.array([250.0, 500.0, 1000.0, 2000.0, 4000.0])
    axes.set_yticks(mel_bin_of(hertz), [f"{h / 1000:g}" for h in hertz])
    axes.set_ylabel("kHz", color=FAINT, fontsize=FONT)
    axes.tick_params(labelsize=FONT, colors=FAINT, length=0)
    axes.spines[:].set_visible(False)


def _draw_events(axes: "Axes", trace: Trace, lanes: list[int], second_width: float) -> None:
    """Draw a bar for each event and, above them, each cue's window: pale until ready, full after."""
    for cue in trace.cues:
        axes.barh(-1, cue.ready_s - cue.onset_s, left=cue.onset_s, height=0.5, color=WANTED, alpha=0.25, lw=0)
        axes.barh(-1, cue.deadline_s - cue.ready_s, left=cue.ready_s, height=0.5, color=WANTED, alpha=0.55, lw=0)
        axes.plot([cue.ready_s] * 2, [-1.4, -0.6], color=INK, linewidth=1.4)
        axes.axvspan(cue.onset_s, cue.deadline_s, color=WANTED, alpha=0.06, lw=0)
    for event, lane in zip(trace.events, lanes, strict=True):
        wanted = event.decision == "RESPOND"
        shade = 1.0 if event.role == "foreground" else 0.55
        axes.barh(
            lane, event.duration_s, left=event.onset_s, height=0.74, lw=0,
            color=WANTED if wanted else UNWANTED, alpha=shade,
        )  # fmt: skip
        label = event.label.replace("_", " ")
        inside = _text_width(label) < event.duration_s * second_width
        axes.text(
            event.onset_s + (0.08 if inside else 0.0), lane, label, va="center", fontsize=FONT, clip_on=True,
            color="white" if wanted and inside else INK, weight="bold" if wanted else "normal", parse_math=False,
        )  # fmt: skip
    by_role = {e.role: lane for e, lane in sorted(zip(trace.events, lanes, strict=True), key=lambda x: -x[1])}
    axes.set_yticks([-1, *by_role.values()], ["reply window", *by_role])
    axes.set_ylim(max(lanes, default=0) + 0.6, -1.6)


def _draw_decisions(axes: "Axes", trace: Trace) -> None:
    """Draw the probability of a response after each chunk, and below it what was done."""
    weighs = any(p is not None for p in trace.probabilities)
    if weighs:
        times = CHUNK_S * (np.arange(len(trace.probabilities)) + 1)
        values = np.array([np.nan if p is None else p for p in trace.probabilities])
        axes.fill_between(times, 0, values, color=ANSWER, alpha=0.15, lw=0)
        axes.plot(times, values, color=ANSWER, marker="o", markersize=2.8, linewidth=1.2)
        axes.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
    for index, step in enumerate(trace.steps):
        axes.barh(-0.2, CHUNK_S * 0.86, left=(index + 0.07) * CHUNK_S, height=0.2, color=_colour(step), lw=0)
    ticks = {-0.2: "decision", 0: "0", 0.5: "P(response)  0.5", 1: "1"} if weighs else {-0.2: "decision"}
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylim(-0.36, 1.06 if weighs else -0.04)


def _colour(step: StepRecord) -> str:
    if step.invalid:
        return ALARM
    return {WAIT: RULE, RESPOND: INK, TOKENS: FAINT}[step.kind]


def _draw_replies(axes: "Axes", trace: Trace, rows: list[int], second_width: float) -> None:
    for reply, row in zip(trace.replies, rows, strict=True):
        colour = ALARM if reply.cue is None else ANSWER
        end = len(trace.steps) * CHUNK_S if reply.end_s is None else reply.end_s
        axes.barh(row, end - reply.start_s, left=reply.start_s, height=0.8, color=colour, alpha=0.28, lw=0)
        axes.plot([reply.start_s] * 2, [row - 0.4, row + 0.4], color=colour, linewidth=2.5)
        left, _ = _text_span(reply, trace, second_width)
        axes.text(
            left + 0.12, row, _caption(reply, trace), va="center", fontsize=FONT, color=INK, clip_on=True,
            parse_math=False,
        )  # fmt: skip
    axes.set_yticks([0], ["replies"])
    axes.set_ylim(max(rows, default=0) + 0.6, -0.6)


def _draw_reward(axes: "Axes", trace: Trace) -> None:
    total = np.cumsum([0.0, *(step.reward for step in trace.steps)])
    times = CHUNK_S * np.arange(len(total))
    axes.axhline(0, color=RULE, linewidth=1)
    axes.fill_between(times, 0, total, step="post", color=INK, alpha=0.08, lw=0)
    axes.step(times, total, where="post", color=INK, linewidth=1.4)
    axes.set_ylabel("reward so far", color=FAINT, fontsize=FONT)
    axes.margins(y=0.15)


def _quieten(axes: "Axes", trace: Trace) -> None:
    """Leave of the frame only what carries information, and mark where each reply begins in every panel."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(labelsize=FONT, colors=FAINT, length=0)
    for reply in trace.replies:
        colour = ALARM if reply.cue is None else ANSWER
        axes.axvline(reply.start_s, color=colour, linewidth=0.8, alpha=0.6, zorder=0)
