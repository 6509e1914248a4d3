import pytest

from sgxl_t.sampling.requests import check_psi, check_seeds, parse_seeds, read_prompts


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
    with pytest.raises(ValueError, match="is no number from -2 to 2"):
        check_psi(psi)


def test_prompts_come_one_a_line_without_comments_and_empty_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbf# mine\na red fox\r\n\n  a blue car \n#x\n")
    assert read_prompts(file) == ["a red fox", "a blue car"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"\xff\xfe\x00a", "not UTF-8"), (b"\n# only a comment\n", "holds no prompt"), (None, "is no file")],
)
def test_prompt_file_that_cannot_serve_is_one_sentence(tmp_path, content, sentence):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_prompts(file)
