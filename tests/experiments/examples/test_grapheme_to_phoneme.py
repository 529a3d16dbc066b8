import numpy as np
import pytest

from experiments import results
from random_bases.keras_api import GENERATION

if GENERATION != "keras3":
    pytest.skip("LoRA is Keras 3's", allow_module_level=True)

from experiments.examples import grapheme_to_phoneme as g2p

WORDS = ["activationist", "cockatoo", "a", "strengths", "zyzzyva", "photosynthesis"]


@pytest.fixture(scope="module")
def weights():
    try:
        return dict(np.load(str(g2p.package_file("g2p-en", "checkpoint20.npz"))))
    except FileNotFoundError as error:
        pytest.skip(str(error))


def said_by_the_package(weights, word):
    """`G2p.predict` of g2p-en 2.1.0, whose module imports nltk and downloads: one word at a time."""

    def cell(x, h, name):
        ih = x @ weights[f"{name}_w_ih"].T + weights[f"{name}_b_ih"]
        hh = h @ weights[f"{name}_w_hh"].T + weights[f"{name}_b_hh"]
        n = h.shape[1]
        r, z = np.split(1 / (1 + np.exp(-(ih[:, : 2 * n] + hh[:, : 2 * n]))), 2, -1)
        return (1 - z) * np.tanh(ih[:, 2 * n :] + r * hh[:, 2 * n :]) + z * h

    state = np.zeros((1, weights["enc_w_hh"].shape[1]), np.float32)
    for letter in [*word, "</s>"]:
        state = cell(weights["enc_emb"][[g2p.LETTERS.index(letter)]], state, "enc")
    phoneme, found, scores = 2, [], []
    for _ in range(20):
        state = cell(weights["dec_emb"][[phoneme]], state, "dec")
        scores.append((state @ weights["fc_w"].T + weights["fc_b"])[0])
        phoneme = scores[-1].argmax()
        if phoneme == 3:
            break
        found.append(g2p.PHONEMES[phoneme])
    return tuple(found), np.array(scores)


def test_it_is_the_packages_network(weights):
    model = g2p.pretrained()
    expected = [said_by_the_package(weights, word) for word in WORDS]
    assert expected[0][0] == tuple("AE2 K T IH0 V EY1 SH AH0 N IH0 S T".split())  # as in the package's README
    assert g2p.pronounced(model, WORDS, steps=20, letters=20) == [said for said, _ in expected]
    for word, (said, scores) in zip(WORDS, expected):
        before = np.array([[g2p.START, *map(g2p.PHONEMES.index, said)]], np.int32)
        found = model([g2p.letters_of([word], 20), before]).numpy()[0]
        np.testing.assert_allclose(found, scores, atol=2e-5)


def test_padding_changes_nothing(weights):
    model, before = g2p.pretrained(), np.full([3, 1], g2p.START, np.int32)
    few, many = (model([g2p.letters_of(WORDS[1:4], steps), before]).numpy() for steps in (10, 16))
    np.testing.assert_allclose(few, many, atol=1e-5)


def test_words_and_phonemes_as_numbers():
    (letters, before), after = g2p.training_arrays(["ab"], [("AE1", "B")])
    assert letters[0, :4].tolist() == [3, 4, 2, 0]
    a, b = g2p.PHONEMES.index("AE1"), g2p.PHONEMES.index("B")
    assert before[0, :4].tolist() == [2, a, b, 3] and after[0, :4].tolist() == [a, b, 3, 0]
    assert letters.shape == before.shape == after.shape == (1, g2p.LONGEST + 1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "", 0), ("kitten", "sitting", 3), ("ab", "ba", 2), ("", "abc", 3), ("x", "x", 0)],
)
def test_edits(a, b, expected):
    assert g2p.edits(tuple(a), tuple(b)) == g2p.edits(tuple(b), tuple(a)) == expected


def test_a_package_that_is_missing_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"x.npz of the package no-such-package is missing: pip install"
    ):
        g2p.package_file("no-such-package", "x.npz")


@pytest.mark.slow
def test_the_example(weights, tmp_path):
    """The claims of its docstring."""
    assert g2p.main([f"--workdir={tmp_path}"]) == 0
    found = {
        each["method"]: each for each in results.read_json(tmp_path / "grapheme_to_phoneme.json")["results"]
    }
    assert list(found) == ["as it was", *g2p.METHODS]
    lora, vector = found[g2p.REFERENCE], found[g2p.VECTOR]
    assert vector["trained"] == 1000 and vector["bytes"] <= lora["bytes"] / 50
    assert vector["bytes"] <= 1.1 * 4 * 1000 + 300
    assert lora["words it got wrong"] > 0.18 and vector["words it got wrong"] > 0.12
    assert vector["all"] > lora["all"] - 0.01 and vector["right"] > lora["right"]
    assert found["MeZO"]["words it got wrong"] > 0.04
