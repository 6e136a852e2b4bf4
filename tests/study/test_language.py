"""Language models: repeatable, dropout where q is 2, quiet in evaluation, and described by what is put in."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from synthetic import language_model, language_models
from torch import nn

from sparsity_lib.study import StudyError, language
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.analysis.other_papers import sparseout_noise
from sparsity_lib.study.language import outcomes, publication, runs, texts, training
from sparsity_lib.study.runs import provenance

SMALL = {"limit": 3000, "hidden": 8, "epochs": 2, "batch_size": 4, "context": 16, "device": "cpu"}


def trained(folder: Path, **fields: object) -> language.LanguageRun:
    return language.train_language(language.LanguageExperiment(**SMALL | fields), folder=folder)


def test_a_run_is_repeatable_bit_for_bit_and_leaves_the_callers_random_state(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    first, second = (trained(tmp_path / name, q=1.0, seed=3) for name in ("a", "b"))
    assert first.curves.identical(second.curves)
    assert torch.equal(torch.get_rng_state(), state)
    for other in ({"seed": 4}, {"gradient": "reused"}):
        fields = {"q": 1.0, "seed": 3} | other
        assert not trained(tmp_path / "c", **fields).curves.equals(first.curves)


def test_with_q_2_it_is_torchs_dropout(tmp_path: Path) -> None:
    experiment = language.LanguageExperiment(**SMALL)
    text = texts.load(experiment.text, experiment.limit)
    train, _ = training.streams(experiment, text)
    weights = []
    for make in (
        lambda: training.build(experiment, len(text.alphabet)),
        lambda: training.CharacterLSTM(len(text.alphabet), 8, 2, lambda: nn.Dropout(experiment.p)),
    ):
        torch.manual_seed(0)
        model = make()
        loss = training.train_epoch(model, torch.optim.Adam(model.parameters()), train, experiment)
        weights.append((loss, *(weight.detach() for weight in model.parameters())))
    for ours, theirs in zip(*weights, strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_evaluation_is_without_noise_and_noise_is_on_what_is_handed_on_alone() -> None:
    torch.manual_seed(0)
    experiment = language.LanguageExperiment(**SMALL, q=1.0, p=0.5)
    model = training.build(experiment, 5)
    characters = torch.randint(5, (12, 3))
    quiet = training.observe(model, characters, experiment)
    silent = training.observe(model, characters, experiment.model_copy(update={"p": 0.0}))
    assert quiet["val_bits"] == silent["val_bits"]
    assert (quiet["noise_to_signal"] > silent["noise_to_signal"]).all()
    assert (silent["noise_to_signal"] == 0).all()
    model.train()
    (_, first, _), (_, second, _) = model(characters), model(characters)
    assert not torch.equal(first[0], second[0])  # the embedded characters are noisy
    model.noises[0].p = 0.0
    (_, first, _), (logits, second, _) = model(characters), model(characters)
    assert torch.equal(first[0], second[0])  # a layer's own next step is not
    assert not torch.equal(first[1], second[1])
    assert logits.shape == (12, 3, 5)


def test_pieces_with_a_carried_state_are_the_whole() -> None:
    torch.manual_seed(0)
    model = training.build(language.LanguageExperiment(**SMALL), 5).eval()
    stream = torch.randint(5, (23, 3))
    whole, state, pieces = model(stream[:-1])[0], None, []
    for characters, _ in training.steps(stream, 8):
        logits, _, state = model(characters, state)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces), whole)


def test_what_repeats_is_learned_and_frequencies_alone_are_not_enough(tmp_path: Path) -> None:
    (tmp_path / "abc.txt").write_text("abcd" * 700)
    run = trained(tmp_path, text=f"file:{tmp_path / 'abc.txt'}", limit=None, lr=0.05, p=0.0)
    assert float(run.curves["unigram_bits"]) == pytest.approx(2, abs=0.01)
    assert float(run.curves["val_bits"][0]) == pytest.approx(2, abs=0.5)
    assert float(run.curves["val_bits"][-1]) < 0.5


def test_a_file_goes_by_its_name_and_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    path = folder / "my poem.txt"
    path.write_text("Über allen Gipfeln ist Ruh. " * 120, encoding="utf-8")
    run = trained(tmp_path / "runs", text=f"file:{path}")
    assert run.id.startswith("LSTM-file-my-poem.txt-s0-")
    assert b"secret" not in run.path.read_bytes()
    assert json.loads(language.curves([run])["experiment"].item())["text"] == "file:my poem.txt"
    path.write_text("Warte nur, balde ruhest du auch. " * 120, encoding="utf-8")
    with pytest.warns(UserWarning, match="set aside"):
        again = trained(tmp_path / "runs", text=f"file:{path}")
    assert again.provenance["data_digest"] != run.provenance["data_digest"]


def test_characters_that_training_never_meets_are_unlikely_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("ab" * 1300 + "xyz" * 140)
    run = trained(tmp_path, text=f"file:{tmp_path / 'new.txt'}", limit=None)
    assert np.isfinite(run.curves["val_bits"]).all()
    assert run.curves["val_bits"][-1] > run.curves["val_bits"][0]
    assert np.isfinite(run.curves["unigram_bits"])


def test_the_topics_have_one_order_and_the_end_is_held_out() -> None:
    whole, part = texts.load("python-topics"), texts.load("python-topics", 1000)
    assert whole.digest == part.digest == texts.digest("python-topics")
    assert whole.alphabet == part.alphabet
    assert (len(part.train), len(part.validation)) == (900, 100)
    assert torch.equal(torch.cat([part.train, part.validation]), whole.train[:1000])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"text": "bible"}, ["bible", "python-topics, shakespeare", "file:PATH"]),
        ({"text": "file:"}, ["'file:'", "file:PATH"]),
        ({"p": 1.0}, ["p", "1.0"]),
        ({"p": -0.1}, ["p", "-0.1"]),
        ({"q": -1}, ["q", "-1"]),
        ({"q": float("inf")}, ["q", "inf"]),
        ({"q": True}, ["q = True"]),
        ({"layers": 0}, ["layers", "0"]),
        ({"gradient": "straight"}, ["gradient", "exact", "reused"]),
        ({"hiden": 3}, ["hiden", "did you mean 'hidden'"]),
        ({"device": "gpu"}, ["gpu", "cuda"]),
    ],
)
def test_a_bad_description_is_one_line(fields: dict[str, object], named: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        language.LanguageExperiment(**fields)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in named)


@pytest.mark.parametrize(
    ("content", "fields", "named"),
    [
        (b"too short", {"limit": None}, ["file:text.txt has 9 characters", "it must have 80"]),
        (b"short" * 20, {"limit": 101}, ["limit = 101", "only 100 characters"]),
        (b"", {"limit": None}, ["has 0 characters"]),
        (b"caf\xe9" * 100, {}, ["no text in UTF-8", "byte 3"]),
        (None, {}, ["cannot read", "No such file"]),
    ],
)
def test_a_bad_text_is_one_line_and_leaves_nothing(
    content: bytes | None, fields: dict[str, object], named: list[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(StudyError) as caught:
        trained(tmp_path / "runs", text=f"file:{tmp_path / 'text.txt'}", **fields)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in named)
    assert not list((tmp_path / "runs").glob("*.nc"))


def test_the_least_length_is_enough_and_one_less_is_not(tmp_path: Path) -> None:
    for length, enough in ((79, False), (80, True)):
        experiment = language.LanguageExperiment(**SMALL | {"limit": length})
        text = texts.load(experiment.text, length)
        if enough:
            train, validation = training.streams(experiment, text)
            assert len(list(training.steps(train, 16))) == 2 or len(train) > 16
            assert len(validation) > 1
        else:
            with pytest.raises(StudyError, match="it must have 80"):
                training.streams(experiment, text)


def test_shakespeare_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSITY_DATA", str(tmp_path))
    with pytest.raises(StudyError, match=r"shakespeare is not at .*tinyshakespeare.txt: put the file there"):
        trained(tmp_path, text="shakespeare")
    (tmp_path / "tinyshakespeare.txt").write_text("First Citizen:\n" * 300)
    assert trained(tmp_path, text="shakespeare").experiment.text == "shakespeare"


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path)
    monkeypatch.setattr(training, "build", None)  # would fail
    assert trained(tmp_path).path.stat().st_mtime_ns == run.path.stat().st_mtime_ns
    assert language.load(run.path).curves.identical(run.curves)
    run.path.write_bytes(run.path.read_bytes()[:5000])
    assert runs.find(run.experiment, tmp_path) is None
    with pytest.raises(StudyError, match="is damaged or no language model's run"):
        language.load(run.path)


def external(file: h5py.File) -> None:
    file.create_dataset("more", (8,), np.uint8, external=[("/etc/passwd", 0, 8)])


def link(file: h5py.File) -> None:
    file["more"] = h5py.ExternalLink("/etc/passwd", "/")


def huge(file: h5py.File) -> None:
    file.create_dataset("more", (10**12,), np.uint8, chunks=(1,))


@pytest.mark.parametrize("change", [external, link, huge])
def test_a_strangers_file_leads_nowhere_and_fills_no_memory(
    change: Callable[[h5py.File], None], tmp_path: Path
) -> None:
    path = trained(tmp_path).path
    content = path.read_bytes().rpartition(b"\nSHA-256 ")[0]
    path.write_bytes(content)
    runs.load(path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(StudyError, match=r"has a link|in another file|more declares"):
        runs.load(path)


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(record: training.Record) -> None:
        if record["epoch"] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        language.train_language(language.LanguageExperiment(**SMALL), interrupt, tmp_path)
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


def test_divergence_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"not finite in epoch \d; try a smaller learning rate than 1e\+37"):
        trained(tmp_path, lr=1e37)


def test_runs_lie_where_those_on_images_are_not_looked_for(runs_folder: Path) -> None:
    run = language.train_language(language.LanguageExperiment(**SMALL))
    assert run.path.parent == runs_folder / "language"
    assert not list(runs_folder.glob("*.nc"))


def test_the_name_is_of_what_is_computed() -> None:
    of = language.LanguageExperiment
    assert of(p=0.0, q=1.0).digest == of(p=0.0).digest != of().digest
    assert of(gradient="reused").digest == of().digest  # q is 2
    assert of(q=1.0, gradient="reused").digest != of(q=1.0).digest
    assert of(device="cpu").digest == of().digest
    assert [each.label for each in (of(), of(q=1.5), of(p=0.0))] == ["q = 2", "q = 1.5", "no noise"]
    assert of(q=1.0, seed=3).setting == of(p=0.0).setting != of(epochs=3).setting


def test_hoyers_measure() -> None:
    h = torch.rand(20, 7)
    found = training.hoyer(h)
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(training.hoyer(h * 1e-3), found)
    torch.testing.assert_close(training.hoyer(torch.ones(2, 9)), torch.zeros(2))
    torch.testing.assert_close(training.hoyer(torch.eye(4)), torch.ones(4))
    assert training.hoyer(torch.zeros(4)) == training.hoyer(torch.ones(1)) == 0


def test_selection_narrows_and_changes() -> None:
    laptop = language.select("laptop")
    assert len(laptop) == len(language.select("desktop")) == 10 * 6
    assert [(e.seed, e.label) for e in laptop[:2]] == [(100, "no noise"), (100, "q = 1")]
    few = language.select("laptop", q="none,1.5", seeds="4-5", epochs=1)
    assert [(e.seed, e.label, e.epochs) for e in few] == [
        (seed, label, 1) for seed in (4, 5) for label in ("no noise", "q = 1.5")
    ]
    for bad, named in (
        ({"profile": "paper"}, "paper has no language models; laptop, desktop have"),
        ({"profile": "laptop", "q": "two"}, "q = 'two'"),
        ({"profile": "laptop", "text": "bible"}, "unknown text 'bible'"),
    ):
        with pytest.raises(StudyError, match=named):
            language.select(**bad)


def test_published_runs_have_the_ids_of_the_grids() -> None:
    for profile in language.GRIDS:
        published = language.published(profile)
        assert published is not None
        assert set(published["run"].to_numpy()) == {e.id for e in language.select(profile)}


@pytest.mark.slow
def test_several_are_trained_side_by_side(tmp_path: Path) -> None:
    few = language.select("laptop", q="1", seeds="0,1", **SMALL)
    diverging = few[0].model_copy(update={"lr": 1e37})
    with pytest.raises(StudyError, match=r"1 of 3 runs failed; .*: the loss is not finite"):
        language.run_all([*few, diverging], jobs=2, folder=tmp_path)
    made = language.run_all(few, folder=tmp_path)  # the others are there
    assert [run.id for run in made] == [experiment.id for experiment in few]
    assert made[0].curves.identical(trained(tmp_path / "alone", lr=0.01, q=1.0).curves)


def test_a_text_is_looked_for_before_any_training(tmp_path: Path) -> None:
    missing = language.select("laptop", text="file:nowhere")
    with pytest.raises(StudyError, match=r"^cannot read nowhere: No such file or directory$"):
        language.run_all(missing, folder=tmp_path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without published runs, of committed code."""
    monkeypatch.setattr(publication, "PROJECT", tmp_path)
    committed = {"commit": "abc", "dirty": 0, "numerics": "language 1, sparseout 1"}
    monkeypatch.setattr(runs, "code", lambda: dict(committed))
    monkeypatch.setattr(publication, "select", lambda profile: small_grid())
    return tmp_path


def small_grid() -> list[language.LanguageExperiment]:
    return language.select("laptop", q="none,1,2", seeds="100,101", **SMALL)


def test_publishing_keeps_curves_and_how_they_were_made(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert language.published("laptop") is None
    assert language.publish("laptop", project / "runs") == 0
    assert language.verify() == [
        f"{project / 'results/language/SHA256SUMS'}: missing; there are no published language models"
    ]
    made = [language.train_language(each, folder=project / "runs") for each in small_grid()[:4]]
    assert language.publish("laptop", project / "runs") == 4
    made += [language.train_language(each, folder=project / "runs") for each in small_grid()[4:]]
    assert language.publish("laptop", project / "runs") == 2
    assert language.publish("laptop", project / "runs") == 0
    published = language.published("laptop")
    assert published is not None
    assert published.equals(language.curves(made))
    assert json.loads(published["provenance"].to_numpy()[0])["commit"] == "abc"
    assert language.verify() == []
    assert set(published["numerics"].to_numpy()) == {"language 1, sparseout 1"}
    with monkeypatch.context() as patch:
        patch.setitem(provenance.NUMERICS, "language", 2)
        assert language.publish("laptop", project / "runs", replace=True) == 0  # none was made anew

    path = project / "results/language/laptop.nc"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert ["its SHA-256 is" in line for line in language.verify()] == [True]
    path.rename(path.with_name("desktop.nc"))
    assert [line.split(": ")[1] for line in language.verify()] == ["missing", "not in SHA256SUMS"]
    path.write_bytes(content[:4000])
    with pytest.raises(StudyError, match="is damaged"):
        language.published("laptop")


def test_uncommitted_code_is_not_published(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"commit": "abc", "dirty": 1, "numerics": "language 1, sparseout 1"}
    monkeypatch.setattr(runs, "code", lambda: made)
    language.train_language(small_grid()[0], folder=project / "runs")
    with pytest.raises(StudyError, match="uncommitted code"):
        language.publish("laptop", project / "runs")
    assert not (project / "results").exists()


def test_the_shell_refuses_bad_input_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "language", "--grids", "paper"]) == 2
    assert main(["run", "language", "--seeds", "two"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "error"]


def test_the_shell_trains_publishes_and_verifies(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, out = small_grid()[:1], str(project / "runs")
    language.train_language(queue[0], folder=out)
    monkeypatch.setattr(language, "select", lambda profile, seeds: queue)
    monkeypatch.setattr(publication, "select", lambda profile: queue)
    monkeypatch.setattr(language, "GRIDS", ["laptop"])
    assert main(["run", "language", "--jobs", "1", "--out", out]) == 0
    assert main(["publish", "language", "--out", out]) == 0
    assert main(["verify", "language"]) == 0
    assert "1 runs added" in capsys.readouterr().out


def test_outcomes_are_what_was_put_in() -> None:
    table = outcomes.outcomes(language_models())
    assert list(dict.fromkeys(table["label"])) == [
        "no noise",
        "q = 1",
        "q = 1.5",
        "q = 2",
        "q = 2.5",
        "q = 3",
    ]
    for label, expected in (("q = 1", 0.1), ("q = 3", -0.1), ("no noise", 0.1)):
        found = comparison.compare(table, label, language.DROPOUT, "lowest_bits")
        assert found.mean == pytest.approx(expected, abs=1e-5)
        assert found.n == 3
    assert (table["last_bits"] - table["lowest_bits"]).to_numpy() == pytest.approx(0.5, abs=1e-5)
    assert set(table["setting"]) == {"python-topics, 64 units"}
    assert outcomes.slope(table, "hoyer:1").mean == pytest.approx(-0.05, abs=1e-5)
    slopes = outcomes.slope_table(table)
    assert slopes.loc[("python-topics, 64 units", "Hoyer's sparsity", 1), "high"] < 0
    assert len(slopes) == 3 * 2


def test_missing_runs_are_counted_and_settings_are_not_mixed() -> None:
    made = [language_model(seed, q=q) for seed in (0, 1) for q in (1.0, 2.0)][:-1]
    table = outcomes.outcomes(language.curves(made))
    found = comparison.compare(table, "q = 1", language.DROPOUT, "last_bits")
    assert (found.n, found.missing) == (1, 1)
    assert outcomes.slope(table, "hoyer:1").missing == 2  # no seed has three values of q
    with pytest.raises(StudyError, match="no runs of language models"):
        language.curves([])
    with pytest.raises(StudyError, match="2 settings, where one is needed"):
        outcomes.outcomes(language.curves([language_model(), language_model(epochs=4, hidden=3)]))


def test_noise_is_as_the_formulas_say() -> None:
    variances, increases = sparseout_noise.variances(), sparseout_noise.logistic_increases()
    np.testing.assert_allclose(variances["measured"], variances["expected"], rtol=0.05)
    small = increases[increases["shift"] < 0.1]
    assert ((small["ratio"] - 1).abs() < 0.03).all()
    assert (small["low"] < 1).all()
    assert (small["high"] > 1).all()
    assert sparseout_noise.variances().equals(variances)


def test_published_files_are_as_listed() -> None:
    assert language.verify() == []
