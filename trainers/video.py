"""One episode as a video: its picture with a cursor that moves as its sound plays."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from envs.audio import write_wav
from envs.errors import ConfigError
from envs.files import write_bytes
from envs.rendering import draw_trace
from trainers.episode_view import EpisodeView

FRAMES_PER_S = 20
_CURSOR, _WIDTH = (209, 73, 91), 2  # colour, pixels


def write_video(path: Path, episode: EpisodeView) -> None:
    """Write an MP4 (H.264, AAC); the file appears under its name only when it is whole.

    Raises:
        ConfigError: when there is no ffmpeg, or it fails.
    """
    picture, first, last = _picture(episode)
    frames = round(episode.scenario.duration_s * FRAMES_PER_S)
    columns = np.linspace(first, last, frames, endpoint=False).astype(int)
    with tempfile.TemporaryDirectory() as work:
        sound, video, log = (Path(work) / name for name in ("sound.wav", "video.mp4", "ffmpeg.log"))
        write_wav(sound, episode.scenario.audio)
        with log.open("wb") as said:
            command = _command(picture.shape[1], picture.shape[0], sound, video)
            code = _encode(command, picture, columns.tolist(), said)
        if code != 0:
            last_words = (log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1]
            raise ConfigError(f"{path}: ffmpeg could not write the video: {last_words}")
        write_bytes(path, video.read_bytes())


def _encode(command: list[str], picture: np.ndarray, columns: Iterable[int], said: BinaryIO) -> int:
    """Give ffmpeg a frame for each place of the cursor; return its exit code. It never outlives this call."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
    assert process.stdin is not None
    try:
        for column in columns:
            frame = picture.copy()
            frame[:, column : column + _WIDTH] = _CURSOR
            process.stdin.write(frame.tobytes())
        process.stdin.close()
    except BrokenPipeError:
        pass  # ffmpeg has stopped by itself; its exit code says so
    except BaseException:  # Ctrl-C above all: it would wait for more frames for ever
        process.kill()
        raise
    finally:
        code = process.wait()
    return code


def _picture(episode: EpisodeView) -> tuple[np.ndarray, int, int]:
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
    return [ffmpeg(), "-y", "-loglevel", "error", *frames, "-i", f"file:{sound}", *video, *audio, "-f", "mp4", str(out)]


def ffmpeg() -> str:
    """Return an ffmpeg: the system's, or the one that the extra `video` brings.

    Raises:
        ConfigError: when there is neither.
    """
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
