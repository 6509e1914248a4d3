import pytest

from sgxl_t.sampling.asked_numbers import check_psi, check_seeds, parse_layers, parse_psis, parse_seeds
from sgxl_t.sampling.prompt_file import PromptLine, parse_line, read_lines, read_prompts


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [3]), ("0-3", [0, 1, 2, 3]), ("7,0-2, 9", [7, 0, 1, 2, 9]), ("1,1,0-1", [1, 0]), ("5-5", [5])],
)
def test_seeds_are_numbers_and_ranges_in_the_order_written(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5-2", "the seed range 5-2 runs backwards: write 2-5"),
        ("", "cannot be read"),
        ("1,,2", "cannot be read"),
        ("-1", "cannot be read"),
        ("one", "cannot be read"),
        ("1.5", "cannot be read"),
        ("0-", "cannot be read"),
        ("0-9999999999", "more than 100000"),
        ("9999999999999999999", "whole number from 0 to 2"),
        ("9" * 5000, "cannot be read"),
    ],
)
def test_seeds_that_are_none_are_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=r".") as error:
        parse_seeds(text)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seeds", [-1, 2**63, True, [], [0, "1"], [1.0]])
def test_seeds_in_python_are_whole_numbers_from_zero(seeds):
    with pytest.raises(ValueError, match="seed"):
        check_seeds(seeds)


@pytest.mark.parametrize("psi", [float("nan"), float("inf"), -float("inf"), 2.5])
def test_psi_is_a_number_near_one(psi):
    with pytest.raises(ValueError, match="is out of range: use -2 to 2"):
        check_psi(psi)


def test_prompts_come_one_a_line_without_comments_and_empty_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbf# mine\na red fox\r\n\n  a blue car \n#x\n")
    assert read_prompts(file) == ["a red fox", "a blue car"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"\xff\xfe\x00a", "not UTF-8"), (b"\n# only a comment\n", "holds no prompt"), (None, "is not a file")],
)
def test_prompt_file_that_cannot_serve_is_one_sentence(tmp_path, content, sentence):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_prompts(file)


def test_lines_name_a_psi_and_a_seed_of_their_own(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox\na car | psi=0.7 | seed=3\n  a dog|seed = 12\nthis | that\n# psi=2\n")
    assert read_lines(file) == [
        PromptLine("a red fox"),
        PromptLine("a car", 0.7, 3),
        PromptLine("a dog", None, 12),
        PromptLine("this | that"),
    ]
    with pytest.raises(ValueError, match="gives 'a car' a psi or seed of its own, which only"):
        read_prompts(file)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a fox | ps=0.7", "has an option 'ps': a line takes psi=NUMBER and seed=NUMBER, each once"),
        ("a fox | psi=1 | psi=0.5", "each once"),
        ("| psi=0.5", "has options only: begin it with a prompt"),
        ("a fox | psi=much", "psi 'much' is not a list of numbers"),
        ("a fox | psi=0.5,1", "psi '0.5,1' is a list: a line takes one number"),
        ("a fox | psi=9", "is out of range: use -2 to 2"),
        ("a fox | seed=0-3", "seed '0-3' is not a whole number: a line takes one"),
        ("a fox | seed=9999999999999999999", "whole number from 0 to 2"),
    ],
)
def test_lines_that_cannot_be_read_are_one_sentence(line, sentence):
    with pytest.raises(ValueError, match=r".") as error:
        parse_line(line)
    assert sentence in str(error.value)


def test_psis_and_layers_are_lists():
    assert parse_psis("0.3, 1,0.3,-0.5") == [0.3, 1.0, -0.5]
    assert parse_layers("4-6,0") == [4, 5, 6, 0]
    for text in ("", "1,,2", "half"):
        with pytest.raises(ValueError, match="is not a list of numbers: write one such as"):
            parse_psis(text)
    with pytest.raises(ValueError, match="layers 'low' cannot be read: write numbers and ranges such as 4-9"):
        parse_layers("low")
