"""Where a policy plays."""

import pytest
import torch

from envs.errors import PolicyError
from policies.device import pick_device


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "mps", "gpu", torch.device("meta")])
def test_a_device_that_is_not_here_is_refused_by_name(
    asked: str | torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(PolicyError, match=rf"device is '{asked}', expected one that is here: auto, cpu$"):
        pick_device(asked)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(PolicyError, match=r"device is 'cuda:2', expected one that is here: auto, cpu, cuda:0, cuda:1"):
        pick_device("cuda:2")
