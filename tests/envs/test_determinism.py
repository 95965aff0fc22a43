"""A twin rollout: two processes, the same seeds, the same bytes."""

import subprocess
import sys
from pathlib import Path

TWIN = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from beeps import beeps
from envs.stream_env import StreamingAudioEnv

def play(env, steps, digest):
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    for _ in range(steps):
        for key in sorted(observation):
            digest.update(observation[key].tobytes())
        digest.update(json.dumps(info, sort_keys=True).encode())
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        digest.update(repr((reward, terminated, truncated)).encode())
        if terminated:
            digest.update(json.dumps(env.trace.to_json()).encode())
            observation, info = env.reset()

digest = hashlib.sha256()
play(StreamingAudioEnv(beeps), 10_000, digest)
play(StreamingAudioEnv(), 150, digest)  # foley scenarios, composed from nothing
print(digest.hexdigest())
"""


def test_twin_rollouts_of_10_000_steps_hash_equal_across_processes():
    command = [sys.executable, "-c", TWIN, str(Path(__file__).parent)]
    twins = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [twin.communicate()[0].strip() for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 64
