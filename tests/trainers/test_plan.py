"""`soundflow plan`: scenes that can be read, JSON that can be parsed, the counts at the end."""

import json

import pytest

from trainers.cli import main

Captured = pytest.CaptureFixture[str]


def test_plans_are_printed_with_what_they_were_grounded_in(capsys: Captured) -> None:
    assert main(["plan", "--count", "2", "--seed", "4"]) == 0
    text = capsys.readouterr().out
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("scene")] == ["scene 4", "scene 5"]
    assert text.count("all through") == 2
    assert text.count("->") >= 6
    scenes, counts = text.split("clips and answers, by what became of them:\n")
    assert " accepted\n" in counts
    assert main(["plan", "--count", "1", "--seed", "5"]) == 0
    assert capsys.readouterr().out.split("clips")[0] in scenes  # a seed's scene does not depend on others


def test_plans_as_json(capsys: Captured) -> None:
    assert main(["plan", "--count", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [scene["seed"] for scene in shown["scenes"]] == [0, 1]
    for scene in shown["scenes"]:
        assert len(scene["grounded"]) == len(scene["outline"]["sub_events"])
    assert shown["counts"]["accepted"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--planner", "llm"], "needs a base URL and a model"),
        (["--model", "x"], "asks no model"),
        (["--planner", "llm", "--model", "x", "--base-url", "here"], "the base URL is 'here'"),
        (["--clips", "nowhere"], "nowhere: no such folder of clips"),
    ],
)
def test_bad_options_are_refused_in_one_line(arguments: list[str], message: str, capsys: Captured) -> None:
    assert main(["plan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert len(err.splitlines()) == 1
