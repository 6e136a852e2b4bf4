"""Language models: repeatable, dropout where q is 2, quiet in evaluation, and described by what is put in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused
from synthetic import language_model, language_models
from torch import nn

from sparsity_lib import study
from sparsity_lib.study import profiles, repeatability
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.analysis.other_papers import language_models as outcomes
from sparsity_lib.study.errors import Stopped
from sparsity_lib.study.language import DROPOUT, LanguageExperiment, model, texts
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import provenance, publication, results
from sparsity_lib.study.training import loop

SMALL = {"limit": 3000, "hidden": 8, "epochs": 2, "batch_size": 4, "context": 16, "device": "cpu"}


def trained(folder: Path, **fields: object) -> study.Run:
    return study.train(LanguageExperiment(**SMALL | fields), folder=folder)


def test_a_run_is_repeatable_bit_for_bit_and_leaves_the_callers_random_state(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    first, second = (trained(tmp_path / name, q=1.0, seed=3) for name in ("a", "b"))
    assert first.root.equals(second.root)
    assert torch.equal(torch.get_rng_state(), state)
    for other in ({"seed": 4}, {"gradient": "reused"}):
        assert not trained(tmp_path / "c", **{"q": 1.0, "seed": 3} | other).root.equals(first.root)


def test_sparseout_with_q_2_is_dropout() -> None:
    experiment = LanguageExperiment(**SMALL)
    text = texts.load(experiment.text, experiment.limit)
    train, _ = model.streams(experiment, text)
    weights = []
    for make in (
        lambda: model.build(experiment, len(text.alphabet)),
        lambda: model.CharacterLSTM(len(text.alphabet), 8, 2, lambda: nn.Dropout(experiment.p)),
    ):
        torch.manual_seed(0)
        lstm = make()
        loss = model.train_epoch(lstm, torch.optim.Adam(lstm.parameters()), train, experiment)
        weights.append((loss, *(weight.detach() for weight in lstm.parameters())))
    for ours, theirs in zip(*weights, strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_evaluation_is_without_noise_and_noise_is_on_non_recurrent_connections_alone() -> None:
    torch.manual_seed(0)
    experiment = LanguageExperiment(**SMALL, q=1.0, p=0.5)
    lstm = model.build(experiment, 5)
    characters = torch.randint(5, (12, 3))
    quiet = model.observe(lstm, characters, experiment)
    silent = model.observe(lstm, characters, experiment.model_copy(update={"p": 0.0}))
    assert quiet["val_bits"] == silent["val_bits"]
    assert (quiet["noise_to_signal"] > silent["noise_to_signal"]).all()
    assert (silent["noise_to_signal"] == 0).all()
    lstm.train()
    (_, first, _), (_, second, _) = lstm(characters), lstm(characters)
    assert not torch.equal(first[0], second[0])  # the embedded characters are noisy
    lstm.noises[0].p = 0.0
    (_, first, _), (logits, second, _) = lstm(characters), lstm(characters)
    assert torch.equal(first[0], second[0])  # a layer's own next step is not
    assert not torch.equal(first[1], second[1])
    assert logits.shape == (12, 3, 5)


def test_pieces_with_a_carried_state_equal_the_whole() -> None:
    torch.manual_seed(0)
    lstm = model.build(LanguageExperiment(**SMALL), 5).eval()
    stream = torch.randint(5, (23, 3))
    whole, state, pieces = lstm(stream[:-1])[0], None, []
    for characters, _ in model.steps(stream, 8):
        logits, _, state = lstm(characters, state)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces), whole)


def test_a_repeating_text_is_learned_beyond_its_frequencies(tmp_path: Path) -> None:
    (tmp_path / "abc.txt").write_text("abcd" * 700)
    run = trained(tmp_path, text=f"file:{tmp_path / 'abc.txt'}", limit=None, lr=0.05, p=0.0)
    assert float(run.root["unigram_bits"]) == pytest.approx(2, abs=0.01)
    assert float(run.root["val_bits"][0]) == pytest.approx(2, abs=0.5)
    assert float(run.root["val_bits"][-1]) < 0.5


def test_a_text_file_is_identified_by_name_and_content(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    path = folder / "my poem.txt"
    path.write_text("Über allen Gipfeln ist Ruh. " * 120, encoding="utf-8")
    run = trained(tmp_path / "runs", text=f"file:{path}")
    assert run.id.startswith("LSTM-file-my-poem.txt-s0-")
    assert b"secret" not in run.path.read_bytes()
    assert json.loads(results.curves([run])["experiment"].item())["text"] == "file:my poem.txt"
    path.write_text("Warte nur, balde ruhest du auch. " * 120, encoding="utf-8")
    with pytest.warns(UserWarning, match="set aside"):
        again = trained(tmp_path / "runs", text=f"file:{path}")
    assert again.provenance["data_digest"] != run.provenance["data_digest"]


def test_characters_absent_from_training_have_finite_loss(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("ab" * 1300 + "xyz" * 140)
    run = trained(tmp_path, text=f"file:{tmp_path / 'new.txt'}", limit=None)
    assert np.isfinite(run.root["val_bits"]).all()
    assert run.root["val_bits"][-1] > run.root["val_bits"][0]
    assert np.isfinite(run.root["unigram_bits"])


def test_topics_have_one_order_and_validation_is_the_end() -> None:
    whole, part = texts.load("python-topics"), texts.load("python-topics", 1000)
    assert whole.digest == part.digest == LanguageExperiment().data_digest()
    assert whole.alphabet == part.alphabet
    assert (len(part.train), len(part.validation)) == (900, 100)
    assert torch.equal(torch.cat([part.train, part.validation]), whole.train[:1000])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"text": "bible"}, ["bible", "python-topics, shakespeare", "file:PATH"]),
        ({"text": "file:"}, ["'file:'", "file:PATH"]),
        ({"p": 1.0}, ["p", "1.0"]),
        ({"q": float("inf")}, ["q", "inf"]),
        ({"q": True}, ["q", "True"]),
        ({"layers": 0}, ["layers", "0"]),
        ({"gradient": "straight"}, ["gradient", "exact", "reused"]),
        ({"hiden": 3}, ["hiden", "'hidden'"]),
    ],
)
def test_bad_descriptions_are_refused_in_one_line(fields: dict[str, object], named: list[str]) -> None:
    with refused(*named):
        LanguageExperiment(**fields)


@pytest.mark.parametrize(
    ("content", "fields", "named"),
    [
        (b"t" * 79, {"limit": None}, ["file:text.txt", "79", "80"]),
        (b"short" * 20, {"limit": 101}, ["limit = 101", "100"]),
        (b"caf\xe9" * 100, {}, ["text.txt", "UTF-8", "byte 3"]),
        (None, {}, ["text.txt"]),
    ],
)
def test_bad_texts_are_refused_in_one_line(
    content: bytes | None, fields: dict[str, object], named: list[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with refused(*named):
        trained(tmp_path / "runs", text=f"file:{tmp_path / 'text.txt'}", **fields)
    assert not list((tmp_path / "runs").glob("*.nc"))


def test_the_shortest_text_has_both_splits() -> None:
    experiment = LanguageExperiment(**SMALL | {"limit": 80})
    train, validation = model.streams(experiment, texts.load(experiment.text, 80))
    assert len(train) > experiment.context
    assert len(validation) > 1


def test_shakespeare_is_a_file_in_the_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSITY_DATA", str(tmp_path))
    with refused(tmp_path / texts.SHAKESPEARE_FILE):
        trained(tmp_path, text="shakespeare")
    (tmp_path / texts.SHAKESPEARE_FILE).write_text("First Citizen:\n" * 300)
    assert trained(tmp_path, text="shakespeare").experiment.text == "shakespeare"


def test_a_finished_run_is_returned_as_it_is_from_a_folder_of_its_own(
    runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = study.train(LanguageExperiment(**SMALL))
    assert run.path.parent == runs_folder / "language"
    monkeypatch.setattr(loop, "new_training", None)  # would fail
    assert study.train(LanguageExperiment(**SMALL)).path == run.path
    assert study.load(run.path).experiment == LanguageExperiment(**SMALL)


def test_a_stopped_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    experiment = LanguageExperiment(**SMALL, q=1.0)
    for _ in range(2):  # before the first epoch, and after it
        with pytest.raises(Stopped):
            study.train(experiment, folder=tmp_path, stop=lambda: True)
    assert study.train(experiment, folder=tmp_path).root.equals(trained(tmp_path / "whole", q=1.0).root)
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".nc", ".lock"}


def test_a_diverging_run_leaves_a_note_alone(tmp_path: Path) -> None:
    with refused("1e+37", error=study.NonFiniteLoss, match=r"epoch \d"):
        trained(tmp_path, lr=1e37)
    assert {path.suffix for path in tmp_path.iterdir()} == {".diverged", ".lock"}


def test_the_id_depends_on_the_computed_fields_alone() -> None:
    of = LanguageExperiment
    assert of(p=0.0, q=1.0).digest == of(p=0.0).digest != of().digest
    assert of(gradient="reused").digest == of().digest  # q is 2
    assert of(q=1.0, gradient="reused").digest != of(q=1.0).digest
    assert of(device="cpu").digest == of().digest
    assert [each.label for each in (of(), of(q=1.5), of(p=0.0))] == ["q = 2", "q = 1.5", "no noise"]
    assert of(q=1.0, seed=3).setting == of(p=0.0).setting != of(epochs=3).setting


def test_hoyer_sparsity_is_scale_free_between_0_and_1() -> None:
    h = torch.rand(20, 7)
    found = model.hoyer(h)
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(model.hoyer(h * 1e-3), found)
    torch.testing.assert_close(model.hoyer(torch.ones(2, 9)), torch.zeros(2))
    torch.testing.assert_close(model.hoyer(torch.eye(4)), torch.ones(4))
    assert model.hoyer(torch.zeros(4)) == model.hoyer(torch.ones(1)) == 0


def test_published_runs_are_those_of_the_grids_and_as_listed() -> None:
    for grid in ("laptop", "desktop"):
        published = study.published("language", f"{grid}.nc")
        assert published is not None
        planned = profiles.experiments("language", grids=[grid], published=True)
        assert published["run"].to_numpy().tolist() == [experiment.id for experiment in planned]
    assert publication.verify("language") == []


@pytest.fixture
def grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, profiles.Grid]:
    """The grids of a small profile `language`, in a project of its own; the second diverges."""
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    monkeypatch.setattr(provenance, "_commit", lambda: ("abc", False))
    cells = tuple(SMALL | {"text": "python-topics", "q": q} for q in (1.0, 3.0))
    made = {"laptop": profiles.Grid(cells, (0,), (0,))}
    made["desktop"] = profiles.Grid(({**cells[0], "lr": 1e37},), (0,), (0,))
    monkeypatch.setitem(profiles.PROFILES, "language", profiles.Profile("small ones", made))
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("grids")
def test_the_queue_trains_language_models(runs_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "language", "--jobs", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 trained" in shown
    assert "1 diverged" in shown
    fields = SMALL | {"q": 1.0}
    (run,) = (study.load(path) for path in runs_folder.glob(f"language/{LanguageExperiment(**fields).id}.nc"))
    assert run.root.equals(trained(runs_folder, q=1.0).root)


def test_language_models_are_published_and_verified(
    grids: dict[str, profiles.Grid], runs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [study.train(LanguageExperiment(**cell)) for cell in grids["laptop"].cells]
    runs.note_divergence(LanguageExperiment(**grids["desktop"].cells[0]), None, "infinite")
    assert main(["run", "language"]) == 0
    assert "2 runs were there, 0 trained" in capsys.readouterr().out
    assert main(["publish", "language"]) == 0
    assert main(["verify", "language"]) == 0
    assert main(["verify", "language", "--again", made[0].id]) == 0
    published = study.published("language")
    for name, values in results.curves(made).data_vars.items():
        np.testing.assert_allclose(published[name], values, rtol=5e-5)
    assert json.loads(published["provenance"].to_numpy()[0])["commit"] == "abc"
    capsys.readouterr()
    assert main(["status", "language"]) == 0
    assert "3 runs, 1 missing" in capsys.readouterr().out


def test_a_run_is_trained_again_and_compared(tmp_path: Path) -> None:
    experiment = LanguageExperiment(**SMALL | {"epochs": repeatability.EPOCHS + 1}, q=1.0)
    curves = results.curves([study.train(experiment, folder=tmp_path)])
    assert repeatability.differences(experiment, curves) == []
    changed = curves.assign(val_bits=curves["val_bits"] * (1 + 3e-4))
    assert len(repeatability.differences(experiment, changed)) == repeatability.EPOCHS + 1
    assert len(repeatability.differences(experiment.model_copy(update={"seed": 1}), curves)) > 3


def test_outcomes_recover_the_synthetic_effects() -> None:
    table = outcomes.outcomes(language_models())
    labels = ["no noise", *(f"q = {q}" for q in ("1", "1.5", "2", "2.5", "3"))]
    assert list(dict.fromkeys(table["label"])) == labels
    for label, expected in (("q = 1", 0.1), ("q = 3", -0.1), ("no noise", 0.1)):
        found = comparison.compare(table, label, DROPOUT, "lowest_bits")
        assert found.mean == pytest.approx(expected, abs=1e-5)
        assert found.n == 3
    assert (table["last_bits"] - table["lowest_bits"]).to_numpy() == pytest.approx(0.5, abs=1e-5)
    assert set(table["setting"]) == {"python-topics, 64 units"}
    assert outcomes.slope(table, "hoyer:1").mean == pytest.approx(-0.05, abs=1e-5)
    slopes = outcomes.slope_table(table)
    assert slopes.loc[("python-topics, 64 units", "Hoyer's sparsity", 1), "high"] < 0
    assert len(slopes) == 3 * 2


def test_missing_runs_are_left_out_and_settings_are_not_mixed() -> None:
    made = [language_model(seed, q=q) for seed in (0, 1) for q in (1.0, 2.0)][:-1]
    table = outcomes.outcomes(results.curves(made))
    found = comparison.compare(table, "q = 1", DROPOUT, "last_bits")
    assert found.n == 1
    assert outcomes.slope(table, "hoyer:1").n == 0  # no seed has three values of q
    with refused(2):
        outcomes.outcomes(results.curves([language_model(), language_model(epochs=4, hidden=3)]))
