import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.cli.app import main


def told(line, capsys):
    code = main(["plan", *line.split()])
    out, err = capsys.readouterr()
    return code, out, err


def test_it_prints_the_plan(capsys):
    code, out, err = told("gpt2-small --store int8 --mesh data=8,model=4 --batch 16", capsys)
    plan = jol.memory_plan("gpt2-small", jol.adam(1e-3), "data=8,model=4", store="int8", batch=16)
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    for cells in (*plan.table(), *plan.change_table()):
        assert " ".join(cells).strip() in words
    assert plan.heading() in out
    assert all(note in out for note in plan.notes)


@pytest.mark.parametrize(("memory", "code", "verdict"), [("80", 0, "fits: "), ("1", 1, "does not fit: ")])
def test_it_says_whether_it_fits(memory, code, verdict, capsys, tmp_path):
    picture = tmp_path / "plan.png"
    found, out, _ = told(f"gpt2-small --mesh data=8 --memory {memory} --picture {picture}", capsys)
    assert found == code
    assert verdict in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_other_meshes_optimizers_and_tasks(capsys):
    assert "zero=0" in told("gpt2-small --mesh model=4 --optimizer optax:lion --dtype bfloat16", capsys)[1]
    assert "digits" in told("digits --mesh data=4 --remat", capsys)[1]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("gpt3-175", "did you mean 'gpt3-175b'?"),
        ("xyzzy", "known: gpt2-small"),
        ("gpt2-small --mesh data=8,modl", "NAME=SIZE"),
        ("gpt2-small --mesh model=4 --zero 1", "the mesh has 'model'"),
        ("gpt2-small --zero 2", "zero must be 0"),
        ("gpt2-small --mesh data=8 --batch 12", "take 16"),
        ("gpt2-small --batch 0", "Must be >= 1"),
        ("gpt2-small --store int9", "no codec"),
        ("gpt2-small --optimizer adm", "did you mean 'adam'?"),
        ("gpt2-small --dtype int8", "float32 or bfloat16"),
        ("gpt2-small --memory -3", "above 0"),
        ("gpt2-small --picture plan.foo", "must end in .png"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(line, hint, capsys):
    code, out, err = told(line, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert hint in err


def test_a_picture_that_cannot_be_written_costs_no_table(capsys, tmp_path):
    picture = tmp_path / "nowhere" / "plan.png"
    code, out, err = told(f"gpt2-small --mesh data=8 --picture {picture}", capsys)
    assert code == 2
    assert "optimizer state" in out
    assert f"cannot be written to {picture}: No such file" in err
