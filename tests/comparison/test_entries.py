"""What can be compared, how it is called, and what is said of what cannot."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.comparison.entries import Unknown, entry, scheduled, with_space
from jaxopt_lectures.core.card import Range
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.space import BadSpace

PARAMS = {"w": jnp.ones((3,))}


def first_step(tx):
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    return updates["w"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import optax\n"
        "def my_tx(learning_rate, decay=0.9):\n    return optax.rmsprop(learning_rate, decay)\n"
        "ready = optax.sgd(0.5)\n"
        "number = 3\n"
        "def without_rate(decay=0.9):\n    return optax.sgd(0.1, decay)\n"
    )
    (tmp_path / "broken.py").write_text("def my_tx(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    return tmp_path


def test_every_name_of_ours_has_its_cards_space():
    for card in jol.registry.cards():
        one = entry(card.name)
        assert (one.name, one.space, one.call) == (card.name, card.space, f"jol.{card.name}")
        values = {name: where.low for name, where in one.space.items()}
        one.build(**values)
        namespace = {"jol": jol}
        eval(one.code(values), namespace)  # what is to be pasted runs


def test_a_solver_has_nothing_to_tune():
    one = entry("lbfgs")
    assert one.space == {}
    assert eval(one.code({}), {"jol": jol}).init(PARAMS) is not None


def test_optax_by_name_takes_the_space_of_the_same_of_ours():
    assert entry("optax:lamb").space == {"learning_rate": Range(1e-5, 1.0)}
    adam = entry("optax:adam")
    assert adam.space == jol.registry.get("adam").space
    assert adam.code({"learning_rate": 0.012345678}) == "optax.adam(learning_rate=0.01235)"


def test_files_modules_functions_and_what_is_built(mine):
    del mine
    for name in ("mine.py:my_tx", "mine:my_tx"):
        one = entry(name)
        assert one.space == {"learning_rate": Range(1e-5, 1.0)}
        assert one.code({"learning_rate": 0.5}) == "my_tx(learning_rate=0.5)"
        assert isinstance(one.build(learning_rate=0.5), optax.GradientTransformation)
    ready = entry("mine.py:ready")
    assert ready.space == {}
    assert float(first_step(ready.build())[0]) == -0.5
    assert entry("mine.py:without_rate").space == {}
    assert entry(jol.adam).call == "jol.adam"
    assert entry(optax.sgd(0.1)).space == {}
    named = entry(("fast", jol.adam, {"learning_rate": Range(0.1, 1.0)}))
    assert (named.name, named.space) == ("fast", {"learning_rate": Range(0.1, 1.0)})
    assert entry(named) is named


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adamm", "no optimizer is called 'adamm'; did you mean 'adam'"),
        ("optax:adamm", "no optimizer of optax is called 'adamm'; did you mean 'adam'"),
        ("mine.py:missing", "no function in mine.py is called 'missing'"),
        ("absent.py:my_tx", "there is no file absent.py"),
        ("absent_module:my_tx", "absent_module cannot be imported: ModuleNotFoundError"),
        ("broken.py:my_tx", "broken.py cannot be read: line 1: "),
        ("raises.py:my_tx", "raises.py cannot be imported: ZeroDivisionError"),
        ("mine.py:number", "mine.py:number is a int; needed is an optimizer"),
    ],
)
def test_what_there_is_not_is_one_line(mine, name, words):
    del mine
    with pytest.raises(Unknown) as error:
        entry(name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_spaces_for_all_and_for_one():
    rate, b1 = Range(1e-3, 0.1), Range(0.5, 0.9, "linear")
    adam, sgd = with_space([entry("adam"), entry("sgd")], {"learning_rate": rate, "adam.b1": b1})
    assert adam.space == {**jol.registry.get("adam").space, "learning_rate": rate, "b1": b1}
    assert sgd.space == {"learning_rate": rate}
    (adamw,) = with_space([entry("adamw")], {"eps": Range(1e-10, 1e-6)})
    assert adamw.space["eps"] == Range(1e-10, 1e-6), "an argument that is not searched by itself"
    for name, words in (
        ("rho", "no optimizer with an argument 'rho'"),
        ("lion.b1", "no optimizer 'lion' to search for"),
        ("adam.nope", "no argument of adam is called 'nope'"),
    ):
        with pytest.raises(BadSpace, match=words):
            with_space([entry("adam"), entry("sgd")], {name: rate})
    with pytest.raises(BadSpace, match="must be below"):
        with_space([entry("adam")], {"learning_rate": Range(1.0, 0.1)})


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 10])
def test_the_rate_goes_through_the_schedule_and_the_code_says_so(name, warmup):
    function, text = over_the_run(name, 100, warmup)
    one = scheduled(entry("sgd"), function, text)
    pasted = eval(one.code({"learning_rate": 0.5}), {"jol": jol})
    for tx in (one.build(learning_rate=0.5), pasted):
        state, seen = tx.init(PARAMS), []
        for _ in range(100):
            updates, state = jax.jit(tx.update)(PARAMS, state, PARAMS)
            seen.append(-float(updates["w"][0]))
        assert seen[warmup] == pytest.approx(0.5)
        assert seen[0] == (pytest.approx(0.5) if not warmup else 0.0)
        # Half a cosine and a line are both at half in the middle.
        middle = warmup + (100 - warmup) // 2
        assert seen[middle] == pytest.approx(0.5 if name == "constant" else 0.25, rel=1e-5)
        assert seen[-1] < 0.01 or name == "constant"


def test_what_searches_along_a_line_has_no_schedule():
    function, text = over_the_run("cosine", 100)
    assert scheduled(entry("lbfgs"), function, text).schedule is None
    assert scheduled(entry(optax.sgd(0.1)), function, text).schedule is None


def test_schedules_that_do_not_fit():
    with pytest.raises(ValueError, match="no schedule is called 'cosin'; did you mean 'cosine'"):
        over_the_run("cosin", 10)
    with pytest.raises(ValueError, match="below the 10 steps"):
        over_the_run("linear", 10, 10)
    with pytest.raises(TypeError, match="warmup must be an integer"):
        over_the_run("linear", 10, 0.5)
