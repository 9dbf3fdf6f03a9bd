"""Training: what SAELens reads back, exact resumes, several dictionaries in one pass, and calls that are
refused."""

import json
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from sae_models import MLP, tiny_model
from safetensors.torch import load_file

from mechfourier.errors import BadCheckpoint, OutOfRange, UnknownSite, UsageError, WeightsNotFound
from mechfourier.sae import training as module
from mechfourier.sae.evaluation import evaluate
from mechfourier.sae.load import feature_basis, load_sae
from mechfourier.sae.rows import Reading
from mechfourier.sae.settings import Dictionary, Schedule, product
from mechfourier.sae.trainee import DictionariesTrainee
from mechfourier.sae.training import train
from mechfourier.training.loop import TrainingInterrupted

QUICK = Schedule(tokens=640, batch=32, lr=1e-3)


def quick(folder: Path, *dictionaries: Dictionary, **options):
    return train(
        tiny_model(),
        dictionaries or (Dictionary(MLP, "topk", "2x", k=4),),
        folder,
        **{"schedule": QUICK, "reading": Reading(held_out=0.2), "control": False, **options},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    quick(folder, control=True)
    return folder


def test_saelens_reads_what_was_trained(trained: Path) -> None:
    sae = SAE.load_from_disk(trained)
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.metadata.hook_name) == (24, 48, MLP)
    made = json.loads((trained / "mechfourier.json").read_text())
    assert made["site"] == MLP and made["rows"] < 23**2
    control = SAE.load_from_disk(trained / "control")
    assert not torch.equal(control.W_dec, sae.W_dec)
    assert not (trained / "activations").exists()


def test_evaluation_reads_only_what_was_held_out(trained: Path) -> None:
    found = evaluate(tiny_model(), str(trained))
    made = json.loads((trained / "mechfourier.json").read_text())
    assert found.activations == 23**2 - made["rows"]
    assert found.l0 == pytest.approx(made["held_out"]["l0"])
    assert found.explained_variance == pytest.approx(made["held_out"]["explained_variance"], rel=1e-5)
    assert found.loss is not None and found.loss_zero is not None


@pytest.mark.parametrize("architecture", ["standard", "batchtopk", "jumprelu", "gated"])
def test_every_architecture_trains_and_is_read_back(tmp_path: Path, architecture: str) -> None:
    result = quick(tmp_path, Dictionary(MLP, architecture, 24))
    assert load_sae(tmp_path).features == 24 and result.dictionaries[0].architecture == architecture
    assert 0 <= evaluate(tiny_model(), str(tmp_path)).dead <= 1


def test_several_dictionaries_are_those_trained_alone(tmp_path: Path) -> None:
    both = [Dictionary(MLP, "topk", "2x", k=4), Dictionary("blocks.0.hook_resid_post", "topk", "1x", k=2)]
    result = quick(tmp_path / "both", *both)
    assert [Path(each.folder).name for each in result.dictionaries] == [
        f"{MLP}-topk-48-k4",
        "blocks.0.hook_resid_post-topk-16-k2",
    ]
    quick(tmp_path / "alone", both[0])
    together = load_file(tmp_path / "both" / f"{MLP}-topk-48-k4" / "sae_weights.safetensors")
    alone = load_file(tmp_path / "alone" / "sae_weights.safetensors")
    assert all(torch.allclose(together[key], alone[key], atol=1e-6) for key in alone)


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mechfourier.sae.trainee as trainee

    monkeypatch.setattr(trainee, "MOST_STEPS", 4)
    quick(tmp_path / "whole")
    step = DictionariesTrainee.step

    def interrupted(self, index: int):
        if index == 2:
            import signal

            signal.raise_signal(signal.SIGINT)
        return step(self, index)

    monkeypatch.setattr(DictionariesTrainee, "step", interrupted)
    with pytest.raises(TrainingInterrupted, match="--resume"):
        quick(tmp_path / "broken")
    monkeypatch.setattr(DictionariesTrainee, "step", step)
    with pytest.raises(WeightsNotFound, match="not finished"):
        load_sae(tmp_path / "broken")
    (tmp_path / "broken" / "activations" / "shard-00000.safetensors").unlink()
    quick(tmp_path / "broken", resume=True)
    whole, broken = (load_file(tmp_path / name / "sae_weights.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_resuming_a_finished_run_does_nothing_again(trained: Path) -> None:
    before = (trained / "sae_weights.safetensors").stat().st_mtime_ns
    again = quick(trained, control=True, resume=True)
    assert (trained / "sae_weights.safetensors").stat().st_mtime_ns == before
    assert again.dictionaries[0].features == 48 and again.control == str(trained / "control")


def test_a_folder_with_dictionaries_is_not_written_over(trained: Path) -> None:
    before = (trained / "sae_weights.safetensors").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        quick(trained)
    with pytest.raises(UsageError, match=r"another configuration.*lr"):
        quick(trained, schedule=Schedule(tokens=640, batch=32, lr=2e-3), resume=True)
    assert (trained / "sae_weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("dictionary", "error", "said"),
    [
        (Dictionary("blocks.0.mlp.hook_pots"), UnknownSite, "closest"),
        (Dictionary("blocks.3.mlp.hook_post"), OutOfRange, "layers"),
        (Dictionary(MLP, width=12), OutOfRange, "at least as many features as dimensions"),
        (Dictionary(MLP, width="0.5x"), OutOfRange, "--width 1x"),
        (Dictionary(MLP, width="many"), UsageError, "write 4x"),
        (Dictionary(MLP, width="1x", k=99), OutOfRange, "24 features"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, dictionary: Dictionary, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        quick(tmp_path, dictionary)
    assert not (tmp_path / "training").exists()


def test_settings_that_contradict_are_refused() -> None:
    for make, said in (
        (lambda: Dictionary(MLP, "top"), "topk"),
        (lambda: Dictionary(MLP, "standard", k=3), "--penalty"),
        (lambda: Dictionary(MLP, "topk", penalty=1.0), "--k"),
        (lambda: Dictionary(MLP, k=0), "at least one"),
        (lambda: Schedule(tokens=10, batch=64), "batch"),
        (lambda: Schedule(lr=0.0), "learning rate"),
        (lambda: product([MLP], ["gated"], ["4x"], [3], []), "--penalty"),
    ):
        with pytest.raises((UsageError, OutOfRange), match=said):
            make()
    assert len(product([MLP, "hook_embed"], ["topk", "gated"], ["2x", "4x"], [4, 8], [1.0])) == 12


def test_interrupting_the_capture_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Shards, "collect", stop)
    with pytest.raises(TrainingInterrupted, match="--resume"):
        quick(tmp_path)


def test_damaged_and_missing_dictionaries_are_one_sentence(trained: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "cut")
    weights = tmp_path / "cut" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        load_sae(tmp_path / "cut")
    with pytest.raises(WeightsNotFound, match="closest releases"):
        load_sae("gemma-scope-2b-pt-rez")
    with pytest.raises(UsageError, match="gpt2-small-res-jb:"):
        load_sae("gpt2-small-res-jb")
    with pytest.raises(UsageError, match="other weights"):
        evaluate(tiny_model(p=29), str(trained))


def test_a_feature_is_its_decoder_direction(trained: Path) -> None:
    sae = SAE.load_from_disk(trained)
    basis = feature_basis(str(trained), 3, site=MLP, model=tiny_model())
    assert torch.allclose(basis[:, 0], torch.nn.functional.normalize(sae.W_dec[3], dim=0), atol=1e-6)
    plane = feature_basis(trained, [3, 5])
    assert torch.allclose(plane.T @ plane, torch.eye(2), atol=1e-5)
    assert torch.allclose(plane @ (plane.T @ basis), basis, atol=1e-5)
    with pytest.raises(OutOfRange, match="0 to 47"):
        feature_basis(trained, 48)
    with pytest.raises(UsageError, match="trained at"):
        feature_basis(trained, 3, site="blocks.0.hook_resid_post")
    with pytest.raises(UsageError, match="do not span"):
        feature_basis(trained, [3, 3])
