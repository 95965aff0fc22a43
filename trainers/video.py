"""One episode as a video: its picture with a cursor that moves as its sound plays."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from envs.audio import write_wav
from envs.errors import ConfigError
from envs.rendering import draw_trace
from trainers.episode_view import Episode

FRAMES_PER_S = 20
_CURSOR, _WIDTH = (209, 73, 91), 2  # colour, pixels


def write_video(path: Path, episode: Episode) -> None:
    """Write an MP4 (H.264, AAC); the file appears under its name only when it is whole.

    Raises:
        ConfigError: when there is no ffmpeg, or it fails.
    """
    picture, first, last = _picture(episode)
    frames = round(episode.scenario.duration_s * FRAMES_PER_S)
    columns = np.linspace(first, last, frames, endpoint=False).astype(int)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    with tempfile.TemporaryDirectory() as work:
        sound, log = Path(work) / "sound.wav", Path(work) / "ffmpeg.log"
        write_wav(sound, episode.scenario.audio)
        command = _command(picture.shape[1], picture.shape[0], sound, aside)
        with log.open("wb") as said:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
            assert process.stdin is not None
            try:
                for column in columns:
                    frame = picture.copy()
                    frame[:, column : column + _WIDTH] = _CURSOR
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg has stopped; what it said is reported below
            finally:
                code = process.wait()
        if code != 0:
            aside.unlink(missing_ok=True)
            last_words = (log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1]
            raise ConfigError(f"{path}: ffmpeg could not write the video: {last_words}")
    aside.replace(path)


def _picture(episode: Episode) -> tuple[np.ndarray, int, int]:
    """Return the episode's picture, uint8 [H, W, 3], and the columns at which its time axis begins and ends."""
    figure = draw_trace(episode.scenario, episode.trace, 14.0, 8.0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    axis = figure.axes[0].get_position()
    return picture, round(axis.x0 * picture.shape[1]), round(axis.x1 * picture.shape[1]) - _WIDTH


def _command(width: int, height: int, sound: Path, out: Path) -> list[str]:
    frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_PER_S), "-i", "-"]
    video = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "stillimage", "-pix_fmt", "yuv420p"]
    audio = ["-c:a", "aac", "-movflags", "+faststart"]
    return [_ffmpeg(), "-y", "-loglevel", "error", *frames, "-i", str(sound), *video, *audio, "-f", "mp4", str(out)]


def _ffmpeg() -> str:
    """Return an ffmpeg: the system's, or the one that the extra `video` brings."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "a video needs ffmpeg: install it, run `uv sync --extra video`, or name a .html or .png file"
        ) from error
    return str(imageio_ffmpeg.get_ffmpeg_exe())
