import pytest

from sgxl_t.conditioning.class_names import ClassNames

NAMES = ("fox", "dog", "goldfish, Carassius auratus", "crane", "t-shirt", "crane")
TEN = tuple(str(9 - index) for index in range(10))


@pytest.mark.parametrize(
    ("request_", "labels"),
    [
        ("fox", [0]),
        ("FOX", [0]),
        (1, [1]),
        ("1", [1]),
        ("0-2", [0, 1, 2]),
        ("dog, 0", [1, 0]),
        ("goldfish, Carassius auratus", [2]),
        ("carassius  AURATUS", [2]),
        ("t-shirt", [4]),
        (["fox", 5, "1-2"], [0, 5, 1, 2]),
    ],
)
def test_names_numbers_ranges_and_lists_become_labels(request_, labels):
    assert ClassNames(NAMES).resolve(request_) == labels


def test_class_that_is_called_by_a_number_is_found_by_its_name():
    assert ClassNames(TEN).resolve("9") == [0]
    assert ClassNames(TEN).resolve(9) == [9]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("fxo", "there is no class 'fxo': did you mean fox?"),
        ("carasius auratus", "did you mean Carassius auratus?"),
        ("zzzzzz", "the classes are 0 fox, 1 dog"),
        ("crane", "'crane' is the name of 2 classes: give the number, 3 or 5"),
        (6, "class 6 does not exist: the model has 6 classes, 0 to 5"),
        (-1, "class -1 does not exist"),
        ("2-1", "the class range 2-1 runs backwards: write 1-2"),
        ("0-99999", "class 99999 does not exist"),
        (True, "True is no class"),
        (None, "None is no class"),
    ],
)
def test_what_is_no_class_is_answered_in_one_sentence(request_, sentence):
    with pytest.raises(ValueError, match=r"class") as error:
        ClassNames(NAMES).resolve(request_)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_suggestions_know_the_words_inside_of_names():
    dogs = ClassNames(
        ("golden retriever", "Labrador retriever", "African elephant, Loxodonta africana", "cat")
    )
    for asked, answer in {
        "golden retriver": "did you mean golden retriever",
        "retriever": "did you mean golden retriever or Labrador retriever",
        "elefant": "did you mean African elephant?",
    }.items():
        with pytest.raises(ValueError, match=r"there is no class") as error:
            dogs.resolve(asked)
        assert answer in str(error.value)
