"""`python -m bench quality` and its twin, seen from our side: PyTorch is played by an answer written here."""
import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict, replace

import pytest

from bench import __main__ as program
from bench import quality
from bench.arena import Failed
from bench.peers import kept
from generators import plans
from generators.errors import RunError
from generators.families.diffusion import ddpm
from generators.registry import FAMILIES, build
from nn import checkpoint
from nn.parallel import Threads, derive_rng
from tests.generators.toys import toy_data

DATA = toy_data(24)
SMALL = replace(plans.default_config("ddpm", DATA), **FAMILIES["ddpm"].tiny | {"time_steps": 1000})
SECONDS = {"eager": 0.3, "channels_last": 0.2, "compile": None}


@pytest.fixture
def asked(monkeypatch):
    """What was asked of PyTorch, which takes SECONDS for a step and leaves the first weights."""
    requests = []

    def ask(request, plan, threads, way, patience=None):
        requests.append((request["do"], way, plan.steps))
        if request["do"] == "time":
            if SECONDS[way] is None:
                raise Failed("it found no compiler")
            return {"seconds": SECONDS[way]}
        model = build(plan.family, plan.config, derive_rng(plan.seed, "weights"))
        how = request["how"] | {"way": way, "steps": plan.steps, "train_minutes": 1.0}
        meta = {"family": "ddpm", "config": asdict(plan.config), "plan": asdict(plan), "twin": how}
        arrays = {f"ema/{name}": array for name, array in model.state().items()}
        checkpoint.save(f"{request['folder']}/checkpoint.npz", arrays, meta)
        return how

    monkeypatch.setattr(kept, "_ask", ask)
    ours = iter([0.1] * 2 + [0.3, 0.1] * 100)
    monkeypatch.setattr(plans, "seconds_per_step", lambda *arguments: next(ours))
    return requests


def trained(out, config=SMALL, data="digits", dataset=DATA, seed=0, ways=kept.WAYS, steps=600):
    return kept.trained(out, config, "ddpm", dataset, data, 1.0, seed, Threads(1), ways, steps)


def test_the_fastest_way_trains_for_as_long_as_ours(asked, tmp_path, capsys):
    """Catches: the slowest way taken, a failed one taken or unmentioned, another time than ours takes for its steps.

    A way counts by the speed of ours just before and after it: the machine is half as fast during the second.
    """
    _, how = trained(tmp_path)
    assert asked == [("time", way, 1) for way in kept.WAYS] + [("train", "channels_last", 600)]
    assert how["milliseconds"] == {"eager": 300.0, "channels_last": 200.0, "compile": None} and how["steps"] == 600
    assert how["ours_milliseconds"] == pytest.approx({"eager": 100.0, "channels_last": 200.0, "compile": 200.0})
    assert "compile: left out, for it found no compiler" in capsys.readouterr().out


def test_a_finished_twin_is_used_again_but_not_for_another(asked, tmp_path):
    """Catches: a twin trained anew at every start; one of other data, settings or ways taken for the one asked for."""
    first, how = trained(tmp_path)
    asked.clear()
    again, same = trained(tmp_path)
    assert not asked and same == how
    assert [a.tobytes() for a in first.state().values()] == [a.tobytes() for a in again.state().values()]
    for other in ({"config": replace(SMALL, caption_dropout=0.2)}, {"data": "mnist"}, {"dataset": toy_data(23)},
                  {"ways": ["eager"]}, {"steps": 599}):  # fmt: skip
        with pytest.raises(RunError, match="another --out"):
            trained(tmp_path, **other)
    trained(tmp_path, seed=1)
    assert asked


def test_no_way_at_all(asked, tmp_path):
    with pytest.raises(RunError, match="no training step"):
        trained(tmp_path, ways=["compile"])


@pytest.mark.parametrize(
    ("body", "patience", "said"),
    [
        ("import time; time.sleep(60)", 0.5, "longer than"),
        ("import sys; sys.exit('no compiler here')", 20.0, "no compiler here"),
        ("import sys; sys.exit(3)", None, "ended with 3"),
    ],
)
def test_a_process_that_does_not_answer(body, patience, said, monkeypatch):
    """Catches: a bench that waits for ever, or that loses the reason."""
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", body], **options))
    plan = plans.Plan("ddpm", "digits", 0, 1, SMALL, 0)
    with pytest.raises(Failed, match=said):
        kept._ask({"do": "time"}, plan, 1, "eager", patience)


def test_without_pytorch_a_sentence(monkeypatch, capsys):
    """Catches: an hour of training before it is found that there is no PyTorch."""
    monkeypatch.setattr(quality, "torch_is_installed", lambda: False)
    monkeypatch.setattr(quality.datasets, "load", None)
    assert program.main(["quality", "--peer"]) == 2
    said = capsys.readouterr().err
    assert "pip install" in said and len(said.splitlines()) == 1
    with pytest.raises(SystemExit) as stopped:
        quality.main(["--peer", "--families", "vae"])
    assert stopped.value.code == 2


def test_the_twin_stands_beside_ours(monkeypatch, tmp_path, capsys):
    """Catches: a ratio upside down; a sampling time of ours passed off as PyTorch's; a twin missing on the page; seeds
    that are all the same, or of which one alone is told; a judge that reads badly and is believed."""
    fid = {"ours": 2.0, "twin": 4.0}

    class Reference:
        figures = {
            "judge": "abc", "fid_floor": 1.0, "fid_noise": 99.0, "precision_real": 0.9, "recall_real": 0.9,
            "sharpness_real": 0.1, "variety_real": 5.0, "match_ceiling": {"digit": 0.9, "all": 0.9},
        }  # fmt: skip

        def __init__(self, judge, *arguments, **options):
            self.judge = judge

        def about_the_judge(self):
            return "Judge abc reads well."

    def evaluate(model, reference, seed, *rest):
        value = fid["twin" if model is twin else "ours"] + seed
        names = ("precision", "recall", "sharpness", "variety", "nearest_mean", "nearest_mean_test", "copies")
        shares = dict.fromkeys(names, 0.5)
        figures = {"fid": value, "fid_ratio": value, "sampling_seconds": 9.0, "match": {"class": 0.9, "all": 0.9}}
        return shares | figures | Reference.figures

    ours, twin = (build("ddpm", SMALL, derive_rng(seed, "weights")) for seed in (0, 1))
    judge = build("classifier", plans.default_config("classifier", DATA), derive_rng(0, "weights"))
    how = {"way": "eager", "milliseconds": {"eager": 700.0}, "steps": 60, "train_minutes": 0.7}
    how["ours_milliseconds"] = {"eager": 350.0}
    monkeypatch.setattr(quality, "torch_is_installed", lambda: True)
    models = {"classifier": judge, "ddpm": ours}

    def trained(out, config, name, dataset, data, minutes, seed, threads):
        seeds.append((name, seed))
        return models[name], {"steps": 90, "train_minutes": 1.0}

    seeds = []
    monkeypatch.setattr(quality, "trained", trained)
    monkeypatch.setattr(quality.twins, "trained", lambda *arguments: (twin, how))
    monkeypatch.setattr(quality, "Reference", Reference)
    monkeypatch.setattr(quality, "evaluate", evaluate)
    monkeypatch.setattr(quality.datasets, "load", lambda *names: DATA)
    monkeypatch.setattr(quality, "draw", lambda model, captions, *rest: DATA.images[: len(captions)])
    monkeypatch.setattr(quality, "TRAINING_MINUTES", ())
    monkeypatch.setattr(quality, "SAMPLING_STEPS", (4, ddpm.SAMPLING_STEPS))
    options = ["--families", "ddpm", "--seeds", "2", "--out", str(tmp_path), "--threads", "1"]
    assert quality.main(options) == 0
    peer = json.loads((tmp_path / "quality.json").read_text())["peer"]
    assert seeds == [("classifier", 0), ("ddpm", 0), ("ddpm", 1)]
    told = capsys.readouterr().out
    assert "2 seeds: 2.0, 3.0; mean 2.5" in told and "Judge abc reads well." in told and "too little" in told
    assert peer["fid_ours_over_peer"] == 0.5 and peer["train_minutes"] == 0.7 and "sampling_seconds" not in peer
    page = (tmp_path / "index.html").read_text()
    assert "steps of sampling" in page and "4 steps of sampling: FID 2.000" in told
    assert "mean 2.5" in page and quality.PEER in page and "its PyTorch twin" in page and "0.50" in page


def test_a_sweep_measures_what_is_not_measured_yet():
    """Catches: longer training than was asked for, a point left out, the known one drawn and judged again."""
    models, measured = {}, []

    def keep(name, minutes, seed):
        models[minutes] = f"{name} after {minutes}"
        return models[minutes], {"steps": 9, "train_minutes": minutes}

    def measure(model, seed, steps=None):
        measured.append((model, steps))
        return {"fid": float(steps or len(measured))}

    points = list(quality._sweep("the trained one", 7.5, keep, measure, Namespace(minutes=5.0, seed=3)))
    assert list(models) == [1, 2]
    assert points[:3] == [("minutes", 1, 1.0), ("minutes", 2, 2.0), ("minutes", 5.0, 7.5)]
    usual = ddpm.SAMPLING_STEPS
    assert points[3:] == [("steps", steps, 7.5 if steps == usual else steps) for steps in (4, 10, 25, 50, 250)]
    assert measured[2:] == [("the trained one", steps) for steps in (4, 10, 25, 250)]
