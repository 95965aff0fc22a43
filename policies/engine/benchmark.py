"""How fast the engine is on this machine, beside loops that people write first; `soundflow bench engine`.

Every loop runs the same `compact` model with random weights over noise, and talks alike: one decision in thirty opens a
reply of twelve tokens.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, Qwen2ForCausalLM
from transformers.models.qwen2 import Qwen2Config

from envs.benchmark import resident_mib
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.scenario import Audio
from policies.configuration_lalm import LALMConfig
from policies.device import pick_device
from policies.engine.engine import Engine
from policies.engine.sampling import Sampling
from policies.modeling_lalm import LALM
from policies.sequences import Turn, collate, lay_out
from policies.tokenizer import ReplyTokenizer, train_tokenizer

RESPONSE_RATE, REPLY_TOKENS = 1 / 30, 12
_SESSIONS = 64
_WARM_CHUNKS = 80  # the window is full, and slides
_BATCH_CHUNKS, _NAIVE_CHUNKS = 40, 60
_TRIALS = 3
_MINUTE = round(60 / CHUNK_S)
_HOUR_MINUTES = 60
_FRAMES = 3  # of the server that encodes its history anew, at minutes 1 and 10
_LIVE_SESSIONS, _LIVE_S, _LIVE_WARM_S = (128, 192, 256), 24.0, 4.0
_FIRST_TOKENS = 40


def bench_engine() -> dict[str, float]:
    """Measure the engine in this process.

    Returns:
        `threads`: of torch.
        `hour_slope`, `frame_slope`: what a chunk costs in minute 60, and in minute 10, over minute 1; an old and a
        fresh session take turns, so that the machine's moods cancel out. `hour_memory_growth`, `hour_growth_mib`: by
        how much the process grew from minute 1 to 60, before anything else was measured. `anew_frame_slope`: minute 10
        over minute 1 of a server that encodes its history anew at each frame.
        `chunks_per_s`: of 64 sessions whose windows are full. `naive_chunks_per_s`: of sessions one after another,
        through `generate` of `transformers` and its cache; `naive_ratio`: of the two. `forward_chunks_per_s`,
        `forward_ratio`: the same where only replies are generated, and decisions are single forward passes.
        `live_sessions`: the most of 128, 192 and 256 that were served in real time with a 99th percentile of decision
        latency below a chunk, and fewer than 0.1 % of decisions later than that; 0: none. `live_p99_ms` and
        `live_stalls` are of those, or of the fewest where none was.
        `first_token_ms`: from a chunk's end to a reply's first token, with one session, the median.
    """
    model = bench_model()
    numbers = {"threads": float(torch.get_num_threads()), **_hour(model), "anew_frame_slope": _anew(model)}
    batched = _batched(model)
    naive, forward = (_naive(model, by_generate) for by_generate in (True, False))
    numbers |= {
        "chunks_per_s": batched,
        "naive_chunks_per_s": naive,
        "naive_ratio": batched / naive,
        "forward_chunks_per_s": forward,
        "forward_ratio": batched / forward,
    }
    return {**numbers, **_live(model), "first_token_ms": _first_token(model)}


def bench_model() -> LALM:
    """Return `compact` at the quickstart's shape, with random weights, that responds at `RESPONSE_RATE`.

    It is on a GPU where there is one.
    """
    torch.manual_seed(0)
    tokenizer = bench_tokenizer()
    layout = tokenizer.layout(audio_tokens_per_chunk=1, tokens_per_chunk=4, window_chunks=64)
    model = LALM(LALMConfig.compact(layout, 768)).eval()
    with torch.no_grad():
        model.lm_head.weight[layout.response] = model.lm_head.weight[layout.silent]
        model.decision_head.bias.fill_(float(np.log(RESPONSE_RATE / (1 - RESPONSE_RATE))))
    return model.to(pick_device())


def bench_tokenizer() -> ReplyTokenizer:
    """Return the tokenizer of `bench_model`."""
    return train_tokenizer([" ".join(map(str, range(2000)))], 768)  # enough text for all of its ids


def _talking(seed: int) -> Sampling:
    return Sampling(threshold=None, seed=seed, max_reply_tokens=REPLY_TOKENS)


def _noises(count: int, seed: int = 0) -> list[Audio]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(CHUNK_SAMPLES)).astype(np.float32) for _ in range(count)]


def _batched(model: LALM) -> float:
    """Return chunks a second of 64 sessions whose windows are full."""
    engine = Engine(model, _SESSIONS)
    sessions = [engine.open(_talking(i)) for i in range(_SESSIONS)]

    def hear(chunks: list[Audio]) -> None:
        for chunk in chunks:
            for session in sessions:
                engine.push(session, chunk)
            engine.step()

    hear(_noises(_WARM_CHUNKS))
    return _BATCH_CHUNKS * _SESSIONS / median_seconds(lambda trial: hear(_noises(_BATCH_CHUNKS, trial)))


def _naive(model: LALM, by_generate: bool) -> float:
    """Return chunks a second of one session after another, with a `DynamicCache`, until their windows would be full."""
    return _NAIVE_CHUNKS / median_seconds(lambda trial: _hear_naively(model, trial, by_generate))


def median_seconds(run: Callable[[int], object]) -> float:
    """Return the median of three trials; `run` is told which one it is."""
    seconds = []
    for trial in range(_TRIALS):
        begin = time.perf_counter()
        run(trial)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


class _AudioLM(Qwen2ForCausalLM):
    """A causal language model that puts `audio` at the audio tokens, as those of `transformers` do."""

    audio: Tensor  # [N, hidden] of the chunk that is heard
    audio_token: int

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Any:
        """Compute as `Qwen2ForCausalLM` does."""
        inputs = self.get_input_embeddings()(input_ids)
        heard = input_ids == self.audio_token
        if heard.any():
            inputs = inputs.masked_scatter(heard.unsqueeze(-1), self.audio)
        return super().forward(inputs_embeds=inputs, **kwargs)


def _audio_lm(model: LALM) -> _AudioLM:
    config = Qwen2Config(**{**model.config.text_config, "use_cache": True})
    language_model = _AudioLM(config).eval().to(model.device, model.dtype)
    weights = {f"model.{name}": tensor for name, tensor in model.text_model.state_dict().items()}
    language_model.load_state_dict({**weights, "lm_head.weight": model.lm_head.weight})
    language_model.audio_token = model.layout.audio
    return language_model


def _hear_naively(model: LALM, seed: int, by_generate: bool) -> list[float]:
    """Let a session of a loop around `transformers` hear its chunks; return P(response) after each, where computed."""
    language_model, layout, features = _audio_lm(model), model.layout, model.make_features()
    rng, context = np.random.default_rng(seed), np.zeros(features.context_samples, np.float32)
    block = [layout.audio_begin, *[layout.audio] * layout.audio_tokens_per_chunk, layout.assistant]
    ids, cache, probabilities, speaking = list(layout.prefix), DynamicCache(), list[float](), 0
    audio = list[Tensor]()  # heard and not yet fed

    def feed() -> Tensor:
        language_model.audio = torch.cat(audio) if audio else torch.empty(0)
        audio.clear()
        return torch.tensor([ids], device=model.device)

    def write(count: int) -> None:
        written = language_model.generate(
            feed(),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=model.device),
            past_key_values=cache,
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=layout.pad,
        )
        ids.extend(written[0, -count:].tolist())

    def decide() -> None:
        if by_generate:
            write(1)
            return
        fresh = feed()[:, cache.get_seq_length() :]
        output = language_model(fresh, past_key_values=cache, output_hidden_states=True, logits_to_keep=1)
        probabilities.append(float(model.decision_log_probs(output.hidden_states[-1][:, -1])[0, 1].exp()))
        ids.append(layout.silent)

    with torch.inference_mode():
        for chunk in _noises(_NAIVE_CHUNKS, seed):
            window = torch.from_numpy(np.concatenate((context, chunk)))[None].to(model.device)
            context = chunk[-len(context) :]
            audio.append(model.encode(features(window))[0])
            ids.extend(block)
            if speaking > 0:  # the engine takes no decision then, either
                speaking -= 1
                continue
            decide()
            respond = rng.random() < RESPONSE_RATE
            ids[-1] = layout.response if respond else layout.silent
            if respond:
                write(REPLY_TOKENS)
                speaking = layout.reply_chunks(REPLY_TOKENS) - 1
    return probabilities


def _hour(model: LALM) -> dict[str, float]:
    """Let one session hear an hour, and others their first minute beside its 10th and its last."""
    engine = Engine(model)
    session = engine.open(_talking(0))

    minute = _noises(_MINUTE)

    def hear(minutes: int) -> None:
        for chunk in minute * minutes:
            engine.push(session, chunk)
            engine.step()

    def turns() -> float:
        """Return what a chunk of the old session costs over one of a session in its first minute."""
        fresh = Engine(model)
        contenders = ((engine, session), (fresh, fresh.open(_talking(1))))
        seconds = ([0.0] * _MINUTE, [0.0] * _MINUTE)
        for t, chunk in enumerate(minute):
            for (own, name), spent in zip(contenders, seconds, strict=True):
                begin = time.perf_counter()
                own.push(name, chunk)
                own.step()
                spent[t] = time.perf_counter() - begin
        return statistics.median(seconds[0]) / statistics.median(seconds[1])

    hear(1)
    before = resident_mib()
    hear(8)
    tenth = turns()
    hear(_HOUR_MINUTES - 11)
    sixtieth = turns()
    grown = resident_mib() - before
    return {
        "hour_slope": sixtieth,
        "frame_slope": tenth,
        "hour_memory_growth": grown / before,
        "hour_growth_mib": grown,
    }


def _anew(model: LALM) -> float:
    """Return what a frame costs at minute 10 over minute 1 where all that was heard is encoded anew each time."""
    features, noise = model.make_features(), torch.from_numpy(np.tile(_noises(1)[0], 10 * _MINUTE)).to(model.device)

    def frame(chunks: int) -> float:
        seconds = []
        for _ in range(_FRAMES):
            begin = time.perf_counter()
            with torch.inference_mode():
                audio = model.encode(features.whole(noise[: chunks * CHUNK_SAMPLES])).flatten(0, 1)
                sequence = lay_out(replace(model.layout, window_chunks=chunks), [Turn(c, None) for c in range(chunks)])
                batch = collate([sequence], [chunks], model.layout.audio_tokens_per_chunk)
                model.decision_log_probs(model.hidden_states(batch.to(model.device), audio)[:, -1]).cpu()
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)

    return frame(10 * _MINUTE) / frame(_MINUTE)


def _live(model: LALM) -> dict[str, float]:
    """Serve sessions in real time, more of them as long as it goes well."""
    best: dict[str, float] = {}
    for count in _LIVE_SESSIONS:
        p99, stalls = _serve(model, count)
        served = p99 < CHUNK_S and stalls < 0.001
        if served or not best:
            best = {"live_sessions": float(count if served else 0), "live_p99_ms": 1e3 * p99, "live_stalls": stalls}
        if not served:
            break
    return best


def _serve(model: LALM, count: int) -> tuple[float, float]:
    """Return (99th percentile of decision latency, share of stalls) of sessions whose chunks end at any moment."""
    engine = Engine(model, count)
    sessions = [engine.open(_talking(i)) for i in range(count)]
    (noise,) = _noises(1)
    latencies: list[float] = []
    start = time.monotonic()
    # (when its next chunk ends, which session), in this order
    due = [(start + CHUNK_S * (1 + i / count), session) for i, session in enumerate(sessions)]
    arrivals: dict[int, float] = {}
    while (now := time.monotonic()) < start + _LIVE_WARM_S + _LIVE_S:
        ready = [(end, session) for end, session in due if end <= now]
        if not ready:
            time.sleep(max(min(end for end, _ in due) - now, 0.0))
            continue
        due = [(end + CHUNK_S, session) if end <= now else (end, session) for end, session in due]
        for end, session in ready:
            arrivals[session] = end
            engine.push(session, noise)
        events = engine.step()
        emitted = time.monotonic()
        if now > start + _LIVE_WARM_S:
            latencies += [emitted - arrivals[e.session] for e in events if e.probability is not None]
    stalls = sum(latency > CHUNK_S for latency in latencies) / len(latencies)
    return float(np.percentile(latencies, 99)), stalls


def _first_token(model: LALM) -> float:
    """Return the median milliseconds from the end of a chunk to the first token of a reply, with one session."""
    engine = Engine(model)
    session = engine.open(_talking(0))
    found: list[float] = []
    (chunk,) = _noises(1)
    while len(found) < _FIRST_TOKENS:
        engine.push(session, chunk)
        found += [e.first_token_latency_s for e in engine.step() if e.first_token_latency_s is not None]
    return 1e3 * statistics.median(found)
