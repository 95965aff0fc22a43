"""The world: clips, scenarios, the Gymnasium environments, rewards, metrics. Importing registers the ids."""

from gymnasium.envs.registration import register, registry

if "SoundFlow/Proactive-v0" not in registry:
    register(
        "SoundFlow/Proactive-v0",
        entry_point="envs.stream_env:StreamEnv",
        vector_entry_point="envs.vector_env:StreamVectorEnv",
    )
