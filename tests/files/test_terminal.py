"""What files say cannot steer a terminal."""

from sgxl_t.files.terminal import visible


def test_control_characters_are_written_out():
    assert visible("\x1b]0;PWNED\x07fox") == "\\x1b]0;PWNED\\x07fox"
    assert visible("a\nb\r\tc\x9b\x7f\0") == "a\\nb\\r\\tc\\x9b\\x7f\\x00"
    assert visible("a\u202eb\u2028\u2066") == "a\\u202eb\\u2028\\u2066"
    assert visible("\udc80") == "\\udc80"


def test_words_of_all_scripts_and_emoji_stay():
    text = "дом 家 a\u0301 🦊 👩‍🚀 שלום \\n"
    assert visible(text) == text
