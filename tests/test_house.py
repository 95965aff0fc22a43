"""The house keeps its own rules: import direction, file sizes, pinned versions, a README that runs."""

import ast
import csv
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache, partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from huggingface_hub import CommitInfo, HfApi, RepoUrl
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from policies.policy_folder import write_policy
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from tests.policies.test_thinker import write_thinker

ROOT = Path(__file__).parent.parent
ROOMS = ("envs", "policies", "trainers")  # a room imports itself and those before it
# `datasets` is a container and no model library: a corpus hands itself over as one, and imports it only then.
HEAVY = {"torch", "torchaudio", "transformers", "trl", "stable_baselines3", "accelerate"}
LIGHT_AT_IMPORT = ("torch", "matplotlib", "soundfile", "soxr", "sacrebleu", "transformers", "datasets")
MAX_LINES = 400
README_BLOCKS = ("policy folder", "thinker", "engine", "environment", "reward", "policy", "gate", "sounds", "corpus")


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path, at_import_time: bool = False) -> frozenset[str]:
    """Return the dotted names that a file imports, `from a import b` as `a` and `a.b`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(imported(executed(tree) if at_import_time else ast.walk(tree), path))


def executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what runs when the module is imported: no function bodies, nothing for type checkers."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        todo.extend(ast.iter_child_nodes(node))


def imported(nodes: Iterator[ast.AST], path: Path) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_down_only(room: str) -> None:
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    wrong = {module_name(p): packages(p) & above for p in modules() if module_name(p).split(".")[0] == room}
    assert not {name: rooms for name, rooms in wrong.items() if rooms}


def test_no_module_imports_itself_in_a_circle() -> None:
    names = {module_name(path): path for path in modules()}
    graph = {name: (imports(path, at_import_time=True) & names.keys()) - {name} for name, path in names.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_the_world_knows_no_model_library() -> None:
    wrong = {module_name(p): packages(p) & HEAVY for p in modules() if module_name(p).startswith("envs")}
    assert not {name: found for name, found in wrong.items() if found}


def test_importing_envs_is_light() -> None:
    code = f"import envs, envs.corpus, sys; print([m for m in {LIGHT_AT_IMPORT!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_only_ppo_imports_trl() -> None:
    assert {module_name(path) for path in modules() if "trl" in packages(path)} == {"trainers.ppo"}


def test_no_file_is_too_long() -> None:
    lengths = {module_name(p): len(p.read_text(encoding="utf-8").splitlines()) for p in modules()}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_constraints_name_every_dependency_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    groups = project["dependency-groups"]
    for text in project["project"]["dependencies"] + groups["dev"] + groups["clients"]:
        wanted = Requirement(text)
        pinned = pins.get(canonicalize_name(wanted.name))
        assert pinned is not None, f"constraints.txt does not name {wanted.name}"
        assert wanted.specifier.contains(pinned), f"constraints.txt pins {wanted.name} {pinned}, not {wanted}"


def test_no_lock_file_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "uv.lock"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not done.stdout.strip()


def readme_blocks() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", readme, flags=re.DOTALL | re.MULTILINE)


def write_sounds(folder: Path) -> None:
    """Write a folder of recordings with its manifest: one sound that deserves a reply, one that does not."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for label, decision in (("glass_breaking", "RESPOND"), ("rain", "IGNORE")):
        sf.write(folder / f"{label}.wav", rng.uniform(-0.5, 0.5, 24_000).astype(np.float32), 16_000)
        rows.append([f"{label}.wav", label, label, "Sounds", decision, label, "", "1.5", "test", "CC0"])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        header = "path,label,caption,domain,decision,recording,speaker,seconds,source,licence"
        csv.writer(file).writerows([header.split(","), *rows])


def shorten_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make PPO's rollouts short."""
    import stable_baselines3

    monkeypatch.setattr(stable_baselines3, "PPO", partial(stable_baselines3.PPO, n_steps=64))


def write_tiny_policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a policy with random weights, and a hub that takes it."""
    tokenizer = train_tokenizer(REPLIES, 300)
    folder.parent.mkdir(parents=True)
    write_policy(folder, tiny_model(tokenizer), tokenizer)
    commit = CommitInfo("https://huggingface.co/me/doorbell/commit/1", "", "", "1")
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: RepoUrl("https://huggingface.co/me/doorbell"))
    monkeypatch.setattr(HfApi, "create_commit", lambda *_, **__: commit)


@pytest.mark.parametrize("block", readme_blocks(), ids=README_BLOCKS)
def test_readme_code_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(bool(line.strip()) for line in block.splitlines()) < 10
    write_sounds(tmp_path / "my_sounds")
    if "runs/quickstart/policy" in block:
        write_tiny_policy(tmp_path / "runs" / "quickstart" / "policy", monkeypatch)
    if "stable_baselines3" in block:
        shorten_training(monkeypatch)
    if "Qwen/Qwen2.5-Omni-3B" in block:
        write_thinker(tmp_path / "Qwen" / "Qwen2.5-Omni-3B")  # a folder of that name comes before the hub
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("100_000", "64"), "README.md", "exec"), {"__name__": "readme"})


def test_readme_names_what_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("soundflow quickstart", "pytest"):
        assert f"\npython3 -m pip install uv && uv run {command}\n" in readme
    for folder in re.findall(r"^\| `(\w+)/` \|", readme, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
