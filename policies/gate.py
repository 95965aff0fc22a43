"""Gates: Stable-Baselines3 learns when to respond, over embeddings of a frozen chunk encoder.

Each chunk is encoded once, when it is heard, and what the learner observes are embeddings: an encoder inside of the
features extractor would encode every chunk again for each observation that holds it and for each epoch over them
(some eighty times with PPO's defaults), and could not keep what a stream's features need of its past.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load, save
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from envs.errors import PolicyError, first_line
from envs.files import write_bytes, write_text
from policies.checkpoint_tensors import check_tensors
from policies.configuration_lalm import LALMConfig
from policies.features import FeatureStream
from policies.frozen_encoder import FrozenEncoder
from policies.log_mel_encoder import LogMelEncoder

CHUNKS = 8  # 3.2 s
FORMAT_VERSION = 1
ChunkEncoder = FrozenEncoder | LogMelEncoder
Seen = dict[str, NDArray[Any]]
DECISION = spaces.Discrete(2)  # wait, respond


def gate_space(encoder: ChunkEncoder, chunks: int) -> spaces.Dict:
    """Return the space of what a gate sees of one stream.

    - `embeddings`: float32 [chunks * embedding_size], oldest chunk first, flat as Stable-Baselines3 wants it.
    - `spoke`: [chunks], whether the agent's reply sounded in each of these chunks.
    - `speaking`: whether it goes on after them.

    The seconds elapsed are not in it: streams of training are short, and a gate that had learned from their clock
    would not know what to do after an hour.

    Raises:
        PolicyError: when there is no chunk in it.
    """
    if chunks < 1:
        raise PolicyError(f"a gate remembers {chunks} chunks, expected at least 1")
    return spaces.Dict(
        {
            "embeddings": spaces.Box(-np.inf, np.inf, (chunks * encoder.embedding_size,), np.float32),
            "spoke": spaces.MultiBinary(chunks),
            "speaking": spaces.Discrete(2),
        }
    )


class GateMemory:
    """What gates see of a batch of streams: their last chunks, zeros before a stream's beginning.

    Args:
        encoder: Encodes each chunk once.
        chunks: How many are kept.
        num_slots: Streams at once, B.
    """

    def __init__(self, encoder: ChunkEncoder, chunks: int, num_slots: int) -> None:
        self.encoder = encoder
        self.streams = [FeatureStream(encoder.features.context_samples) for _ in range(num_slots)]
        self.embeddings = np.zeros((num_slots, chunks, encoder.embedding_size), np.float32)
        self.spoke = np.zeros((num_slots, chunks), np.int8)

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Begin new streams where `mask` [B] is True."""
        for slot in np.flatnonzero(mask):
            self.streams[slot] = FeatureStream(self.encoder.features.context_samples)
        # anew, not in place: the last observation of an episode is looked at after the next has begun
        self.embeddings = np.where(mask[:, None, None], np.float32(0), self.embeddings)
        self.spoke = np.where(mask[:, None], np.int8(0), self.spoke)

    def hear(self, audio: NDArray[np.float32], spoke: NDArray[np.bool_], speaking: NDArray[Any]) -> Seen:
        """Take one more chunk of every stream in.

        Args:
            audio: float32 [B, 6400].
            spoke: bool [B], whether the agent's reply sounded in that chunk.
            speaking: [B], whether it goes on.

        Returns:
            A batch of `gate_space`.
        """
        for stream, samples in zip(self.streams, audio, strict=True):
            stream.push(samples)
        windows = [window for stream in self.streams for window in stream.take()]
        newest = self.encoder(windows, self.streams).flatten(1).cpu().numpy()
        self.embeddings = np.concatenate([self.embeddings[:, 1:], newest[:, None]], axis=1)
        self.spoke = np.concatenate([self.spoke[:, 1:], spoke[:, None].astype(np.int8)], axis=1)
        flat = self.embeddings.reshape(len(audio), -1)
        return {"embeddings": flat, "spoke": self.spoke, "speaking": np.asarray(speaking, np.int64)}

    def state(self) -> Seen:
        """Return all that is remembered of the streams, for `restore`: arrays [B, ...]."""
        return {
            "embeddings": self.embeddings,
            "spoke": self.spoke,
            "overlap": np.stack([stream.overlap for stream in self.streams]),
            "maximum": np.array([stream.maximum for stream in self.streams]),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from where `state` was taken."""
        self.embeddings, self.spoke = state["embeddings"], state["spoke"]
        for stream, overlap, maximum in zip(self.streams, state["overlap"], state["maximum"], strict=True):
            stream.overlap, stream.maximum = overlap, float(maximum)


class GateObservation(gym.Wrapper[dict[str, Any], Any, dict[str, Any], Any]):
    """Lets the agent observe embeddings in place of samples; see `gate_space`.

    Args:
        env: A stream environment under `envs.wrappers.DiscreteDecision`.
        encoder: Encodes each chunk once, as it is heard.
        chunks: How many of the last ones are observed.

    Raises:
        PolicyError: when the environment's actions are not wait and respond.
    """

    def __init__(self, env: gym.Env[dict[str, Any], Any], encoder: ChunkEncoder, chunks: int = CHUNKS) -> None:
        super().__init__(env)
        if env.action_space != DECISION:
            raise PolicyError(f"a gate decides Discrete(2), not {env.action_space}; wrap it in DiscreteDecision first")
        self.observation_space = gate_space(encoder, chunks)
        self.memory = GateMemory(encoder, chunks, 1)
        self._speaking = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin a scenario; what was heard before is forgotten."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.memory.reset(np.ones(1, bool))
        return self._see(observation, spoke=False), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Wait (0) or respond (1), and hear the next chunk."""
        spoke = self._speaking or bool(action == 1)
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._see(observation, spoke), reward, terminated, truncated, info

    def _see(self, observation: dict[str, Any], spoke: bool) -> dict[str, Any]:
        self._speaking = bool(observation["speaking"])
        seen = self.memory.hear(observation["audio"][None], np.array([spoke]), np.array([self._speaking]))
        return {name: batch[0] for name, batch in seen.items()}


class GateExtractor(BaseFeaturesExtractor):
    """The trainable layer between embeddings and the gate's network: each chunk becomes `width` numbers.

    One layer for all chunks, so that a sound is the same sound wherever in the memory it stands.

    Args:
        observation_space: A `gate_space`.
        width: Numbers for each chunk.
    """

    def __init__(self, observation_space: spaces.Dict, width: int = 32) -> None:
        (size,), (chunks,) = observation_space["embeddings"].shape or (), observation_space["spoke"].shape or ()
        super().__init__(observation_space, chunks * (width + 1) + 2)
        self.chunks = chunks
        self.layer = nn.Sequential(nn.LayerNorm(size // chunks), nn.Linear(size // chunks, width), nn.Tanh())

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return float32 [B, features_dim]; `speaking` arrives as one-hot, [B, 2] or from a buffer [B, 1, 2]."""
        heard = self.layer(observations["embeddings"].unflatten(1, (self.chunks, -1)))
        return torch.cat((heard.flatten(1), observations["spoke"], observations["speaking"].flatten(1)), dim=1)


class Gate:
    """A trained gate with the encoder that it listens through.

    Args:
        policy: `model.policy` of PPO or A2C, trained on `GateObservation` with `GateExtractor`.
        encoder: That of its observations.

    Raises:
        PolicyError: when the policy is another one.
    """

    def __init__(self, policy: BasePolicy, encoder: ChunkEncoder) -> None:
        if not (isinstance(policy, ActorCriticPolicy) and isinstance(policy.features_extractor, GateExtractor)):
            raise PolicyError(
                "a gate is the policy of PPO or A2C with features_extractor_class=GateExtractor, not"
                f" {type(policy).__name__} with {policy.features_extractor_class.__name__}"
            )
        self.policy, self.encoder, self.chunks = policy, encoder, policy.features_extractor.chunks
        if policy.observation_space != gate_space(encoder, self.chunks) or policy.action_space != DECISION:
            raise PolicyError(
                f"the gate decides {policy.action_space} over {policy.observation_space}, and the encoder gives"
                f" {encoder.embedding_size} numbers a chunk"
            )
        policy.set_training_mode(False)

    def probabilities(self, seen: Seen) -> NDArray[np.float64]:
        """Return P(response) [B] for a batch of what `GateMemory.hear` returns."""
        observations, _ = self.policy.obs_to_tensor(seen)
        with torch.inference_mode():
            decision: Any = self.policy.get_distribution(observations).distribution
        return np.asarray(decision.probs[:, 1].double().cpu().numpy())

    def save(self, folder: str | Path) -> None:
        """Write `gate.safetensors` (weights, the encoder's too) and `gate.json`; neither is left half-written.

        Raises:
            PolicyError: when they cannot be written, or the network cannot be described.
        """
        activation = self.policy.activation_fn.__name__
        if getattr(nn, activation, None) is not self.policy.activation_fn:
            raise PolicyError(f"the gate's activation_fn is {self.policy.activation_fn}, expected one of torch.nn")
        about = {
            "format_version": FORMAT_VERSION,
            "chunks": self.chunks,
            "policy": {
                "activation_fn": activation,
                "net_arch": self.policy.net_arch,
                "share_features_extractor": self.policy.share_features_extractor,
                "features_extractor_kwargs": self.policy.features_extractor_kwargs,
            },
            "lalm": self.encoder.config and self.encoder.config.to_dict(),
        }
        try:
            text = json.dumps(about, indent=2)
            write_bytes(Path(folder) / "gate.safetensors", save(_weights(self.policy, self.encoder)))
            write_text(Path(folder) / "gate.json", text)
        except (OSError, TypeError) as error:
            raise PolicyError(first_line(f"{folder}: the gate cannot be written: {error}")) from error

    @classmethod
    def load(cls, folder: str | Path) -> "Gate":
        """Read what `save` wrote; the policy can go on learning, as the `policy` of a PPO of the same shape.

        Raises:
            PolicyError: when a file is missing or spoilt, the two do not fit, or they are of another version.
        """
        about = check_gate(folder)
        try:
            weights = load((Path(folder) / "gate.safetensors").read_bytes())
            policy, encoder = _of_random_weights(about)
        except PolicyError:
            raise
        except Exception as error:  # every part checks its own shape in its own way
            raise PolicyError(first_line(f"{folder}: the gate cannot be read: {error!r}")) from error
        own, found = ({n: tuple(w.shape) for n, w in part.items()} for part in (_weights(policy, encoder), weights))
        check_tensors(own, found, f"{folder}/gate.safetensors: weights do not fit gate.json")
        policy.load_state_dict(_part(weights, "policy."), strict=False)  # a shared extractor has more names than one
        encoder.load_state_dict(_part(weights, "encoder."), assign=True)  # and keeps the type it was saved in
        return cls(policy, encoder)


def check_gate(folder: str | Path) -> dict[str, Any]:
    """Return what `gate.json` says of a gate whose files are there and of this version; no weights are read.

    Raises:
        PolicyError: as `Gate.load`, but for weights that do not fit.
    """
    try:
        about: dict[str, Any] = json.loads((Path(folder) / "gate.json").read_text(encoding="utf-8"))
        version = about["format_version"]
        with safe_open(Path(folder) / "gate.safetensors", "pt"):
            pass  # its header is whole, and announces as many bytes as are there
    except Exception as error:  # what is no gate fails in ways of its own
        raise PolicyError(first_line(f"{folder}: the gate cannot be read: {error!r}")) from error
    if version != FORMAT_VERSION:
        raise PolicyError(f"{folder}/gate.json: format version {version}, this release reads {FORMAT_VERSION}")
    return about


def _of_random_weights(about: dict[str, Any]) -> tuple[MultiInputActorCriticPolicy, ChunkEncoder]:
    """Return the parts of a gate that `gate.json` describes."""
    lalm = about["lalm"]
    encoder = LogMelEncoder() if lalm is None else FrozenEncoder.of_random_weights(LALMConfig.from_dict(lalm))
    shape = {**about["policy"], "activation_fn": getattr(nn, about["policy"]["activation_fn"])}
    space = gate_space(encoder, int(about["chunks"]))
    policy = MultiInputActorCriticPolicy(
        space, DECISION, lambda _: 0.0, features_extractor_class=GateExtractor, **shape
    )
    return policy, encoder


def _weights(policy: ActorCriticPolicy, encoder: ChunkEncoder) -> dict[str, Tensor]:
    """Return what a gate file holds, by name; an extractor that actor and critic share is in it once."""
    held = {f"policy.{name}": parameter.detach() for name, parameter in policy.named_parameters()}
    held |= {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in held.items()}


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
