"""Time-frequency joint preprocessing (TFJP) of one clip (paper, section on data construction).

Up to three rounds of silence cutting and spectral subtraction, then the core of the sound, snapped to half
a chunk and tapered.
"""

import numpy as np
from numpy.typing import NDArray

from envs.clock import SAMPLE_RATE, samples
from envs.scenario import Audio

ROUNDS = 3  # K
LONGEST_SILENCE_S = 0.3  # tau
GATE_PERCENTILE = 10.0
NOISE_SHARE = 0.05
SUBTRACTION = 1.0
GRID_S = 0.2  # half a chunk
TAPER_S = 0.02
_HOP = 160  # energy frames of 10 ms
_FFT = 512
_BELOW_LOUDEST = 1e-3  # power: 30 dB
_ABSOLUTE_GATE = 1e-7  # power: below -70 dBFS everything is silence
_GATE_MARGIN = 4.0  # the gate stands 6 dB above the percentile: the floor itself is silence


def frame_power(audio: Audio) -> NDArray[np.float64]:
    """Return the mean power of 10 ms frames: [ceil(n / 160)]."""
    padded = np.pad(audio.astype(np.float64), (0, -len(audio) % _HOP))
    return np.square(padded.reshape(-1, _HOP)).mean(axis=1)


def silent_frames(audio: Audio) -> NDArray[np.bool_]:
    """Return which 10 ms frames are silent: bool [ceil(n / 160)].

    The gate is the 10th percentile of frame power with a margin, at least 30 dB below the loudest frame: a
    clip without pauses has no silence, whatever its percentile says.
    """
    power = frame_power(audio)
    loudest = power.max()
    gate = max(min(np.percentile(power, GATE_PERCENTILE) * _GATE_MARGIN, loudest * _BELOW_LOUDEST), _ABSOLUTE_GATE)
    return power <= gate


def longest_gap_s(audio: Audio) -> float:
    """Return the longest silence between two sounds of a clip, in seconds; silence at its ends is no gap."""
    if len(audio) == 0:
        return 0.0
    heard = np.flatnonzero(~silent_frames(audio))
    return float(np.diff(heard).max(initial=1) - 1) * _HOP / SAMPLE_RATE


def silence_cut(audio: Audio) -> Audio:
    """Shorten every silent run to at most tau = 300 ms, again until nothing is left to cut (idempotent)."""
    cut = _silence_cut_once(audio)
    while len(cut) < len(audio):
        audio, cut = cut, _silence_cut_once(cut)
    return cut


def _silence_cut_once(audio: Audio) -> Audio:
    if len(audio) == 0:
        return audio
    silent = silent_frames(audio)
    longest = round(LONGEST_SILENCE_S * SAMPLE_RATE / _HOP)
    steps = np.diff(np.concatenate(([0], silent.astype(np.int8), [0])))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    keep = np.ones(len(silent), bool)
    for start, end in zip(starts, ends, strict=True):
        keep[start + longest : end] = False
    return audio[np.repeat(keep, _HOP)[: len(audio)]]


def _stft(audio: Audio) -> NDArray[np.complex64]:
    """Return the half-overlapping spectra of the padded signal: [frames, 257]."""
    padded = np.pad(audio, (_FFT, _FFT + (-len(audio) % (_FFT // 2))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[:: _FFT // 2]
    return np.fft.rfft(frames * _window(), axis=1).astype(np.complex64, copy=False)


def _window() -> Audio:
    # the square root of a Hann window: its square overlap-adds to one
    return np.sin(np.pi * np.arange(_FFT) / _FFT).astype(np.float32)


def _istft(spectrum: NDArray[np.complex64], length: int) -> Audio:
    """Invert `_stft` by overlap-add: float32 [length]."""
    frames = np.fft.irfft(spectrum, _FFT, axis=1) * _window()
    half = _FFT // 2
    out = np.zeros((len(frames) + 1) * half, np.float32)
    out[: len(frames) * half] += frames[:, :half].ravel()
    out[half:] += frames[:, half:].ravel()
    return out[_FFT : _FFT + length]


def noise_profile(spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Return the mean magnitude spectrum of the lowest-energy 5 % of frames: [257]."""
    magnitude = np.abs(spectrum)
    energy = np.square(magnitude).sum(axis=1)
    count = max(1, round(NOISE_SHARE * len(energy)))
    return magnitude[np.argsort(energy)[:count]].mean(axis=0)


def denoise(audio: Audio) -> Audio:
    """Subtract the noise profile's magnitude from every frame (spectral subtraction, coefficient 1)."""
    if len(audio) < _FFT:
        return audio
    spectrum = _stft(audio)
    inside = spectrum[2:-2] if len(spectrum) > 8 else spectrum  # frames of padding are no noise
    magnitude = np.abs(spectrum)
    gain = np.maximum(magnitude - SUBTRACTION * noise_profile(inside), 0.0) / np.maximum(magnitude, 1e-12)
    return _istft(spectrum * gain, len(audio))


def core_locate(audio: Audio, max_seconds: float) -> Audio:
    """Cut the contiguous span of at most `max_seconds` with the best energy / spectral-entropy score."""
    width = samples(max_seconds)
    if len(audio) <= width:
        return audio
    spectrum = np.square(np.abs(_stft(audio))) + 1e-12
    share = spectrum / spectrum.sum(axis=1, keepdims=True)
    entropy = -(share * np.log(share)).sum(axis=1) / np.log(spectrum.shape[1])
    energy = spectrum.sum(axis=1)
    score = np.cumsum(np.concatenate(([0.0], energy / energy.sum() / (entropy + 0.1))))
    frames = min(width // (_FFT // 2), len(score) - 1)
    start = int(np.argmax(score[frames:] - score[:-frames])) * (_FFT // 2) - _FFT
    start = min(max(start, 0), len(audio) - width)
    return audio[start : start + width]


def boundary_norm(audio: Audio) -> Audio:
    """Pad with silence to a multiple of 200 ms, half a chunk."""
    return np.pad(audio, (0, -len(audio) % samples(GRID_S)))


def spec_smooth(audio: Audio) -> Audio:
    """Taper both ends with 20 ms of a Hann window."""
    width = min(samples(TAPER_S), len(audio) // 2)
    if width == 0:
        return audio
    ramp = (0.5 - 0.5 * np.cos(np.pi * np.arange(width) / width)).astype(np.float32)
    out = audio.copy()
    out[:width] *= ramp
    out[-width:] *= ramp[::-1]
    return out


def tfjp(audio: Audio, max_seconds: float = 5.0) -> Audio:
    """Run all of TFJP: float32 [n] -> float32 [m], m a multiple of 200 ms, at most `max_seconds` rounded up to one.

    A last silence cut that still changes the clip starts all of it again, at most K times; a clip that is not stable
    then is taken as it is.
    """
    out = audio
    for _ in range(ROUNDS):
        out = spec_smooth(boundary_norm(core_locate(_clean(out), max_seconds)))
        cut = silence_cut(out)
        if len(cut) == len(out):
            return out
        out = cut
    return spec_smooth(boundary_norm(out))


def _clean(audio: Audio) -> Audio:
    """Cut silence and subtract noise, at most K times, until nothing is left to cut."""
    for _ in range(ROUNDS):
        before = len(audio)
        audio = denoise(silence_cut(audio))
        if len(audio) == before:
            break
    return audio
