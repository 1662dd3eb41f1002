"""Characters: which files they come from, that nothing is lost on the way, and that validation is not trained on."""

import hashlib
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import characters


def text_of(tokens):
    return "".join((*characters.ALPHABET, "\0")[token] for token in tokens)


def test_sources_are_files_of_python_with_their_hashes():
    sources = characters.sources()
    assert [source.name for source in sources] == list(characters.MODULES)
    for source in sources:
        assert source.path == Path(importlib.util.find_spec(source.name).origin)
        assert source.sha256 == hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert 300_000 < sum(source.path.stat().st_size for source in sources) < 600_000


def test_a_missing_source_is_named(monkeypatch):
    characters.sources.cache_clear()
    for name in ("no_module_of_this_name", "sys"):  # none, and one without a file
        monkeypatch.setattr(characters, "MODULES", ("csv", name))
        with pytest.raises(FileNotFoundError, match=f"no source file of its module '{name}' .*character tasks read it"):
            characters.sources()
    assert characters.sources.cache_info().currsize == 0


def test_every_printable_character_has_its_token_and_all_others_share_one():
    printable = "".join(map(chr, range(32, 127))) + "\n"
    assert sorted(characters.ALPHABET) == sorted(printable)
    assert characters.VOCABULARY == 97
    assert text_of(characters.encode(printable)) == printable
    assert characters.encode("ä\t\r∂").tolist() == 4 * [96]
    assert characters.encode("").shape == (0,)


def test_windows_are_the_text_and_targets_are_one_character_later():
    data = tasks.get("characters_gru").data()
    for x, y in (data.train, data.validation):
        assert x.shape[1] == y.shape[1] == characters.CONTEXT
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
        assert x.min() >= 0
        assert x.max() < characters.VOCABULARY
    first = characters.sources()[0].path.read_text(encoding="utf-8")
    count = round(len(first) * 0.9) // 64 - 1
    assert text_of(data.train.x[:count].ravel()) == first[: 64 * count].replace("\t", "\0")
    assert len(data.validation.x) == 256


def test_validation_windows_come_from_the_last_tenth_of_a_file():
    data = tasks.get("characters_gru").data()
    ends = [text[round(len(text) * 0.9) :] for text in (s.path.read_text("utf-8") for s in characters.sources())]
    for window in data.validation.x[::16]:
        text = text_of(window)
        assert "\0" in text or any(text in end for end in ends)


def test_three_networks_read_the_same_text():
    one, two, three = (tasks.get(f"characters_{kind}") for kind in ("transformer", "lstm", "gru"))
    assert one.data is two.data is three.data
    assert len({task.batch_size for task in (one, two, three)}) == 1


def test_bits_are_nats_over_the_logarithm_of_two():
    task = tasks.get("characters_lstm")
    x = np.zeros((2, 3), np.int32)
    uniform = np.zeros((2, 3, characters.VOCABULARY), np.float32)
    # one logarithm of 97 in float32
    assert float(task.metric(lambda x: uniform, x, x)) == pytest.approx(math.log2(97), rel=1e-6)
    assert float(task.loss(lambda x: uniform, x, x)) == pytest.approx(math.log(97), rel=1e-6)
