"""One episode to look at and listen to, as a piece of a page: picture, sound with a cursor, what was said."""

import base64
import html
import io
from dataclasses import dataclass

from envs.clock import SAMPLE_RATE
from envs.metrics import replies_by_label
from envs.rendering import draw_trace
from envs.scenario import Audio, Scenario
from envs.trace import Trace

STYLE = """
.player{position:relative;cursor:pointer}.player i{position:absolute;top:0;bottom:0;width:2px;background:#d1495b;
opacity:0}.player img{display:block;width:100%;height:auto;background:#fff;border-radius:8px}
audio{width:100%;margin:.7rem 0 .3rem}
tr.soft td{color:var(--soft)}
"""
SCRIPT = """<script>
for (const player of document.querySelectorAll(".player")) {
  const sound = player.nextElementSibling, cursor = player.querySelector("i");
  const from = +player.dataset.from, width = player.dataset.to - from;
  const draw = () => {
    cursor.style.left = from + width * sound.currentTime / (sound.duration || 1) + "%";
    cursor.style.opacity = sound.currentTime > 0 ? 1 : 0;
    if (!sound.paused) requestAnimationFrame(draw);
  };
  sound.onplay = sound.onseeked = sound.onpause = draw;
  player.onclick = event => {
    const box = player.getBoundingClientRect(), at = (100 * (event.clientX - box.left) / box.width - from) / width;
    sound.currentTime = Math.min(Math.max(at, 0), 1) * sound.duration;
  };
}
</script>"""


@dataclass(frozen=True)
class EpisodeView:
    """One stream to look at and listen to."""

    name: str
    scenario: Scenario
    trace: Trace


def episode_html(episode: EpisodeView) -> str:
    """Return the episode for a page that has `STYLE` and, at its end, `SCRIPT`: a click on the picture seeks."""
    rows = sorted(_heard_rows(episode.trace) + _cue_rows(episode.trace) + _reply_rows(episode.trace))
    return (
        f"<h2>{html.escape(episode.name)}</h2>"
        f"{player_html(episode)}"
        "<div class=card><table class=text><thead><tr><th>second</th><th>what</th><th>heard or said</th></tr></thead>"
        f"<tbody>{''.join(row for _, row in rows)}</tbody></table></div>"
    )


def player_html(episode: EpisodeView, small: bool = False) -> str:
    """Return picture and sound alone; `small` ones are lossy and a tenth as large, which is enough to judge by."""
    picture, kind = io.BytesIO(), "webp" if small else "png"
    figure = draw_trace(episode.scenario, episode.trace, *((13.0, 6.5) if small else ()))
    figure.savefig(picture, format=kind, dpi=70 if small else 110, pil_kwargs={"quality": 70} if small else {})
    axis = figure.axes[0].get_position()  # of the time axis, once the picture is laid out
    sound = _mp3(episode.scenario.audio) if small else _wav(episode.scenario.audio)
    return (
        f'<div class="player" data-from="{100 * axis.x0:.2f}" data-to="{100 * axis.x1:.2f}">'
        f'<img alt="Spectrogram, events, decisions and reward of the stream" src="data:image/{kind};base64,'
        f'{_base64(picture.getvalue())}"><i></i></div>'
        f'<audio controls preload="metadata" src="data:audio/{"mpeg" if small else "wav"};base64,{_base64(sound)}">'
        "</audio>"
    )


def _heard_rows(trace: Trace) -> list[tuple[float, str]]:
    """Return a row for each foreground sound."""
    heard = [event for event in trace.events if event.role == "foreground"]
    return [(e.onset_s, _text_row(e.onset_s, _name(e.label), e.caption, "soft")) for e in heard]


def _reply_rows(trace: Trace) -> list[tuple[float, str]]:
    rows = []
    for reply, label in replies_by_label(trace):
        what = f"<span class=bad>{_name(label)}</span>" if reply.cue is None else f"answers {_name(label)}"
        rows.append((reply.start_s, _text_row(reply.start_s, what, reply.text)))
    return rows


def _cue_rows(trace: Trace) -> list[tuple[float, str]]:
    """Return a row for each cue that nobody answered."""
    answered = {reply.cue for reply in trace.replies}
    missed = [cue for i, cue in enumerate(trace.cues) if i not in answered]
    return [
        (cue.deadline_s, _text_row(cue.deadline_s, f"<span class=bad>missed {_name(cue.label)}</span>", ""))
        for cue in missed
    ]


def _text_row(second: float, what: str, words: str, style: str = "") -> str:
    return f'<tr class="{style}"><td>{second:.1f}</td><td>{what}</td><td>{html.escape(words)}</td></tr>'


def _name(label: str) -> str:
    return html.escape(label.replace("_", " "))


def _wav(audio: Audio) -> bytes:
    import soundfile as sf  # noqa: PLC0415 - only where there is sound to embed

    sound = io.BytesIO()
    sf.write(sound, audio, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return sound.getvalue()


def _mp3(audio: Audio) -> bytes:
    import soundfile as sf  # noqa: PLC0415 - only where there is sound to embed

    sound = io.BytesIO()
    sf.write(sound, audio, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    return sound.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
