"""Each instruction of IFEval, kept and broken."""

import pytest

from envs.suites.instruction_checks import kept, lacking, unknown_instruction

CASES = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "A dog and a cat.", "A dog and a catalogue."),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A catalogue.", "A Cat."),
    ("keywords:frequency", {"keyword": "no", "frequency": 2, "relation": "at least"}, "No, no.", "No."),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 2, "let_relation": "less than"}, "a", "Aa"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One.", "One. Two!"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        "Well.\n\nSo it is.",
        "So.\n\nIt is.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. P. S. again", "Bye."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and b"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a: 1"),
    ("detectable_format:title", {}, "<<On cats>>\nCats.", "On cats"),
    ("combination:two_responses", {}, "a****** b", "a****** a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say a."}, "Say a.\na", "a"),
    ("startend:end_checker", {"end_phrase": "The end."}, "So. the end.", "The end. So."),
    ("startend:quotation", {}, '"Yes."', '"Yes.'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "A BIG dog",
        "A dog",
    ),
    ("change_case:english_capital", {}, "YES, 3.", "Yes."),
    ("change_case:english_lowercase", {}, "yes, 3.", "Yes."),
    ("punctuation:no_comma", {}, "Yes.", "Yes, so."),
]


@pytest.mark.parametrize(("name", "details", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_an_instruction_is_kept_or_not(name: str, details: dict[str, object], good: str, bad: str) -> None:
    question = {"instruction_id_list": [name], "kwargs": [details]}
    assert lacking(question) == unknown_instruction(question) == ""
    assert [kept(question, answer) for answer in (good, bad, " ")] == [[True], [False], [False]]
