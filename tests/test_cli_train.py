"""`train` and `inspect`: options, files, folders, exit codes."""

import json
import math

import jax
import pytest

from jaxopt_lectures import cli
from jaxopt_lectures.cli.config import literal, scheduled
from jaxopt_lectures.cli.curves import curve
from jaxopt_lectures.cli.refusal import Refusal

SHORT = ["--steps", "40", "--eval-every", "20", "--way", "single"]


def run(capsys, *words):
    """Exit code, what was printed, what was said beside."""
    code = cli.main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_train_and_train_again_and_inspect(tmp_path, capsys):
    folder = tmp_path / "a"
    code, out, err = run(
        capsys, "train", "xor", "--optimizer", "adamw", "--learning-rate", "1e-2", "--b1", "0.8",
        "--schedule", "cosine", "--warmup", "5", "--checkpoint", folder, *SHORT,
    )  # fmt: skip
    assert code == 0, err
    assert "all steps taken" in out
    assert f"jaxopt-lectures inspect {folder}" in out
    assert "40/40" in err
    told = json.loads((folder / "run.json").read_text())
    assert "adamw(learning_rate=" in told["optimizer"]
    assert "b1=0.8" in told["optimizer"]
    assert told["notes"]["learning_rate"] == 0.01
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    # of the 40th update, count 39: 34 of the 35 steps after the warm-up
    assert records[-1]["learning_rate"] == pytest.approx(0.01 * (1 + math.cos(math.pi * 34 / 35)) / 2, rel=1e-3)

    code, out, err = run(capsys, "train", "--resume", folder, "--steps", "60")
    assert code == 0, err
    assert "step 60" in out
    code, out, err = run(capsys, "inspect", folder)
    assert code == 0, err
    for word in ("xor", "adamw(", "60 of 60", "training loss", "written: "):
        assert word in out, word
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_config_file_and_options_before_it(tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text('task = "xor"\noptimizer = "momentum"\nlearning-rate = 0.5\nsteps = 40\neval-every = 20\n')
    code, out, err = run(capsys, "train", "--config", file, "--steps", "20", "--checkpoint", tmp_path / "a")
    assert code == 0, err
    assert "step 20" in out
    assert "learning_rate=0.5" in json.loads((tmp_path / "a" / "run.json").read_text())["optimizer"]


def test_optimizers_of_optax(capsys):
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic
        code, out, err = run(capsys, "train", "xor", "--optimizer", "optax:lamb", "--learning-rate", "0.01", *SHORT)
    assert code == 0, err
    assert "all steps taken" in out


def test_names_with_hyphens(capsys):
    assert run(capsys, "train", "digits-cnn", "--steps", "1", "--batch-size", "8")[0] == 0


def test_stopping_early(capsys):
    code, out, _ = run(capsys, "train", "xor", "--to-target", "true", "--learning-rate", "0.1", "--steps", "2000")
    assert code == 0
    assert "target reached" in out


def test_a_run_that_is_not_finite_has_a_code_of_its_own(tmp_path, capsys):
    code, out, _ = run(capsys, "train", "rosenbrock", "--optimizer", "sgd", "--learning-rate", "1e6", *SHORT)
    assert code == 1
    assert "not finite" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "train what? name a task"),
        (["digitz"], "did you mean 'digits'"),
        (["xor", "--optimizer", "adamm"], "did you mean 'adam'"),
        (["xor", "--optimizer", "optax:nothing"], "optax has no optimizer 'nothing'"),
        (["xor", "--epz", "0.5"], "no option of train or argument of adam is called 'epz'; did you mean 'eps'"),
        (["xor", "--b1", "1.5"], "b1 must lie in [0, 1)"),
        (["xor", "--learning-rate", "fast"], "learning_rate must be a number, got 'fast'"),
        (["xor", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["xor", "--warmup", "60", "--steps", "50"], "warmup must be below the 50 steps"),
        (["xor", "--steps", "many"], "steps must be a whole number, at least 1, got 'many'"),
        (["xor", "--steps", "0"], "steps must be a whole number"),
        (["xor", "--eval-every", "0"], "eval_every must be at least 1"),
        (["xor", "--patience", "2.5"], "patience must be an integer"),
        (["xor", "--on-nonfinite", "hope"], "on_nonfinite must be one of"),
        (["xor", "--batch-size", "100"], "no batch of 100"),
        (["xor", "--compute-dtype", "int32"], "compute_dtype must be a floating-point dtype"),
        (["xor", "--config", "/nowhere.toml"], "cannot read --config /nowhere.toml"),
        (["5"], "no task is called '5'"),
        (["xor", "--optimizer", "3"], "no optimizer is called '3'"),
        (["--resume", "/nowhere"], "is not the folder of a run"),
        (["xor", "--data-dir", "/tmp"], "reads no files"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals(words, said, capsys):
    code, out, err = run(capsys, "train", *words)
    assert code == 2
    assert not out
    assert said in err
    assert len(err.splitlines()) == 1


def test_folders_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "dear.txt").write_text("dear")
    code, _, err = run(capsys, "train", "xor", "--checkpoint", tmp_path, *SHORT)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "not the folder of a run" in err
    assert run(capsys, "inspect", tmp_path)[0] == 2
    broken = tmp_path / "broken.toml"
    broken.write_text("a = ")
    assert "is not TOML" in run(capsys, "train", "--config", broken)[2]


def test_words_are_what_they_name():
    words = ["1e-3", "4", "true", "False", "none", "bfloat16", "[1]", "0x10"]
    assert [literal(word) for word in words] == [1e-3, 4, True, False, None, "bfloat16", "[1]", 16]


def test_schedules_by_a_word():
    assert scheduled("constant", 0.5, 10, 0) == 0.5
    rising = scheduled("linear", 1.0, 10, 4)
    assert [float(rising(count)) for count in (0, 2, 4, 7, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    with pytest.raises(Refusal, match="warmup"):
        scheduled("constant", 0.5, 10, True)


def test_curves():
    rows = curve([0, 50, 100], [1.0, 0.5, 0.0], 30, 4)
    assert len(rows) == 5
    assert rows[0].startswith("1 ██")
    assert rows[3].split()[0] == "0"
    assert rows[4].split() == ["0", "100"]
    assert max(map(len, rows)) <= 30
    assert curve([0, 1], [math.nan, math.inf], 30, 4) == ["nothing finite to draw"]
    assert "█" not in "".join(curve([0, 1], [1.0, math.nan], 30, 4, unicode=False))
    assert len(curve([5], [2.0], 30, 4)) == 5
    falling = curve([0, 1, 2], [100.0, 10.0, 1.0], 30, 3, log=True)
    assert falling[0].startswith("100 █")
    assert falling[2].startswith("  1 █")
    assert "▅" in falling[1], "the middle value stands in the middle"


def test_a_mesh_by_words(tmp_path, capsys):
    """A run begun on eight devices and gone on with on one: what it is trained on is not among its options."""
    folder = tmp_path / "a"
    words = ["--mesh", "data=4,model=2", "--zero", "3", "--batch-size", "4", *SHORT]
    code, _, err = run(capsys, "train", "xor", "--checkpoint", folder, *words)
    assert code == 0, err
    told = json.loads((folder / "run.json").read_text())
    assert (told["mesh"], told["zero"], told["processes"]) == ("data=4,model=2", 3, 1)
    assert not {"mesh", "zero"} & set(told["notes"])
    code, out, err = run(capsys, "train", "--resume", folder, "--steps", "60")
    assert code == 0, err
    assert "step 60" in out
    assert "mesh" not in json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mesh", "data=3"], "do not divide the 8 devices"),
        (["--mesh", "data=8", "--batch-size", "4"], "a batch of 4 cannot be divided by data=8: choose a multiple of 8"),
        (["--mesh", "model=8"], "name one of its axes 'data', or choose zero=0"),
        (["--mesh", "data=2", "--zero", "2"], "zero must be 0"),
        (["--scatter", "true"], "scatter needs a mesh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_meshes_that_are_refused(words, said, capsys):
    code, out, err = run(capsys, "train", "xor", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
