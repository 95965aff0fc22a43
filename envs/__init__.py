"""The world: clips, scenarios, the Gymnasium environments, rewards, metrics. Importing registers the ids."""

from gymnasium.envs.registration import register, registry

ABILITY_NAMES = (
    "VoiceChat",
    "InstructionFollowing",
    "AudioUnderstanding",
    "Translation",
    "SpeechRecognition",
    "Proactive",
    "EnvironmentAgent",
    "Mixed",
)

for _name in ABILITY_NAMES:
    if f"SoundFlow/{_name}-v0" not in registry:
        register(
            f"SoundFlow/{_name}-v0",
            entry_point="envs.stream_env:StreamingAudioEnv",
            vector_entry_point="envs.vector_env:StreamingAudioVectorEnv",
            kwargs={"ability": _name},
        )
