"""The benches measure what they say they measure."""
import json
import math
import mmap
import time

import numpy as np
import pytest

from bench import arena, flops, memory, models, ops, profile, report, speed
from bench.arena import Outcome
from bench.contestant import Ours
from generators.family import FamilyConfig
from nn import functional as F
from nn.processes import ProcessPool
from nn.tensor import Function, Parameter, Tensor

TINY = {"vae": {"width": 16, "batch_size": 8, "shard_size": 4}}


@pytest.mark.parametrize(
    ("asked", "core", "avx512", "told"),
    [
        ("Haswell", "Haswell", True, True),
        ("SkylakeX", "SkylakeX", True, False),
        (None, "Haswell", True, False),
        ("Haswell", "Haswell", False, False),
        ("Haswell", None, True, False),
    ],
)
def test_who_measures_is_told_of_a_core_that_holds_back(monkeypatch, asked, core, avx512, told):
    """Catches: figures at half of what the processor can do, and nobody knows why."""
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    if asked:
        monkeypatch.setenv("OPENBLAS_CORETYPE", asked)
    monkeypatch.setattr(speed.runtime, "has_avx512", lambda: avx512)
    advice = speed.held_back(core)
    assert ("OPENBLAS_CORETYPE=Haswell" in advice) if told else advice is None


@pytest.mark.parametrize(("op", "shapes"), ops.CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_every_op_of_the_bench_runs_whole(op, shapes, monkeypatch):
    """Catches: a case that cannot be prepared, a shard left out, weights cut up, gradients that nobody asked for."""
    seen, function = [], Ours.function(op)
    watched = lambda *tensors: seen.append(tensors) or function(*tensors)  # noqa: E731
    monkeypatch.setattr(Ours, "function", lambda self, op: watched)
    rng = np.random.default_rng(0)
    forward, both = Ours(1).prepare_op(op, [rng.standard_normal(shape, dtype=np.float32) for shape in shapes])
    for run, backwards in ((forward, False), (both, True)):
        for tensor in (tensor for tensors in seen for tensor in tensors):
            tensor.grad = None
        seen.clear()
        run()
        assert len(seen) == -(-shapes[0][0] // FamilyConfig.shard_size)
        for position, shape in enumerate(shapes):
            parts = [tensors[position] for tensors in seen]
            count = parts[0].shape[0] if position in ops.WEIGHTS.get(op, ()) else sum(part.shape[0] for part in parts)
            assert (count, *parts[0].shape[1:]) == shape
            assert all((part.grad is not None) == backwards for part in parts)


def test_flops_of_ops_by_hand():
    """Catches: a gradient that nobody wants counted, a wanted one not, attention's products taken for one."""
    w, image = Parameter(np.ones((3, 3, 4, 8), np.float32)), np.ones((2, 6, 6, 4), np.float32)
    one = 2 * (2 * 6 * 6 * 8) * (3 * 3 * 4)  # a multiplication and an addition for each output number, tap and channel
    for x, passes in ((Tensor(image), 2), (Parameter(image), 3)):
        with flops.counted() as total:
            F.sum(F.conv2d(x, w, padding=1)).backward()
        assert total[0] == passes * one
        with flops.counted() as total:
            F.sum(F.conv2d(x, w, padding=1, onto=np.ones((2, 6, 6, 8), np.float32))).backward()
        assert total[0] == passes * one
    q = Parameter(np.ones((2, 3, 5, 4), np.float32))
    with flops.counted() as total:
        F.sum(F.scaled_dot_product_attention(q, q, q)).backward()
    assert total[0] == 6 * 2 * (2 * 3) * 5 * 5 * 4  # two products, and both gradients of each


def test_counting_and_profiling_leave_no_trace():
    """Catches: ops that stay wrapped after a bench, so that everything later is slower or counted twice."""
    kinds = profile.every_op(Function)
    before = [(vars(kind).get("forward"), vars(kind).get("backward")) for kind in kinds]
    trainer = models.make_trainer("vae", models.digits(), 1, TINY["vae"])
    found = profile.Profile("vae", 2)
    with profile.timed_ops(found), profile.timed_parts(trainer, found):
        trainer.step()
    flops.count_step(trainer)
    assert before == [(vars(kind).get("forward"), vars(kind).get("backward")) for kind in kinds]


def test_profile_adds_up():
    """Catches: time counted twice or lost between the rows of a profile."""
    trainer = models.make_trainer("vae", models.digits(), 1, TINY["vae"])
    trainer.step()
    found = profile.Profile("vae", 2)
    with profile.timed_ops(found), profile.timed_parts(trainer, found):
        begin = time.thread_time()
        trainer.step()
        found.step = found.untimed = found.two_threads = time.thread_time() - begin
    calls = {direction: sum(r.calls for (_, d, _), r in found.ops.items() if d == direction) for direction in
             ("forward", "backward")}  # fmt: skip
    assert calls["forward"] >= calls["backward"] > 0
    assert 0 < found.between < found.step
    assert sum(row.seconds for _, row in found.by_op()) == pytest.approx(sum(r.seconds for r in found.ops.values()))
    assert "Conv2d backward" in profile.table(found)


def test_ratios():
    """Catches: a ratio upside down, against the slowest, or against a contestant that failed."""
    outcomes = {
        "ours": Outcome([0.1, 0.2, 0.3], [0.5], 100, 9.0, 50.0, gemm=[190.0, 100.0, 200.0]),
        "ours_1_thread": Outcome([0.4], [1.0], 100, 9.0, 40.0, gemm=[100.0, 100.0, 250.0]),
        "torch_eager": Outcome([0.5], [0.4], 100, 9.0, 100.0),
        "torch_channels_last": Outcome([0.4], [2.0], 100, 9.0, 120.0),
        "torch_compile": Outcome(failure="no compiler"),
    }
    found = report.figures(outcomes)
    assert found["ours_ms"] == pytest.approx(200) and found["ratio"] == pytest.approx(0.5)
    assert found["sampling_ratio"] == pytest.approx(200 / 250)
    assert found["memory_ratio"] == pytest.approx(0.5) and found["threads_1_over_2"] == pytest.approx(2)
    assert found["gemm_gflops"] == {"ours": 190, "ours_1_thread": 100}
    assert found["gemm_2_over_1"] == pytest.approx(1)  # of each round (1.9, 1, 0.8), not of the medians
    assert math.isnan(found["torch_compile_ms"]) and "no compiler" in report.family("vae", found)
    as_json = json.loads(json.dumps(report.without_nan(found), allow_nan=False))
    assert as_json["torch_compile_ms"] is None
    assert "0.50" in report.summary({"vae": found})


def test_ratio_without_torch():
    alone = report.figures({"ours": Outcome([0.1], [0.5], 100, 9.0, 50.0)})
    assert math.isnan(alone["ratio"]) and "-" in report.summary({"vae": alone})


def test_digits_of_another_size():
    for size in (8, 28, 36):
        assert models.digits(size).images.shape[1:] == (size, size, 1)


@pytest.mark.parametrize("name", models.WITH_TWIN)
def test_width_settings(name):
    """Catches: a sweep over widths that a family does not know, or does not follow."""
    dataset = models.data_for(name)
    narrow, wide = (
        models.make_model(name, dataset, models.width_settings(name, w)).parameter_count() for w in (16, 32)
    )
    assert narrow < wide


def test_peak_memory():
    """Catches: a peak that forgets what was freed before it was asked for."""
    before = memory.reset_peak()
    with mmap.mmap(-1, 30_000_000) as block:  # fresh pages, which the allocator might not take
        block.write(bytes(1) * 30_000_000)
    assert memory.peak_megabytes() - before > 25


def test_a_contest_with_a_failure():
    """Catches: one contestant's failure ending the contest, or its reason lost."""
    build = {"family": "vae", "settings": TINY["vae"]}
    outcomes = arena.match(["ours"], build, rounds=1, turn=0.05, pictures=8)
    found = outcomes["ours"]
    assert len(found.gemm) == 1 and found.gemm[0] > 0
    assert len(found.steps) >= 2 and found.milliseconds > 0 and found.per_second > 0 and found.megabytes > 0
    broken = arena.match(["ours"], {"family": "vae", "settings": {"width": 13}}, rounds=1, turn=0.05)["ours"]
    assert "given 13" in broken.failure and not broken.steps


def test_a_series_with_a_failure():
    """Catches: one model that fails taking the others with it, whose process has to be started again."""
    good = {"family": "vae", "settings": TINY["vae"]}
    builds = {"1": {"family": "vae", "settings": {"width": 13}}, "2": good}
    outcomes = arena.series(["ours"], builds, rounds=2, turn=0.05)
    assert "given 13" in outcomes["1"]["ours"].failure and not outcomes["1"]["ours"].steps
    assert len(outcomes["2"]["ours"].steps) >= 4 and not outcomes["2"]["ours"].failure


class Recorded:
    """A contestant that notes what it is asked, and needs twice as long for the first half of every turn."""

    asked: list[tuple[str, str, int]] = []

    def __init__(self, name):
        self.name = name

    def ask(self, do, **options):
        if do == "build":
            self.family = options["family"]
            return {}
        count = options["steps"]
        self.asked.append((self.name, self.family, count))
        return {"seconds": [0.02 if i < count // 2 else 0.01 for i in range(count)]}

    def close(self):
        pass


def test_a_series_takes_turns_and_leaves_out_what_is_cold(monkeypatch):
    """Catches: all rounds of one model before the next, which a slow minute would then meet alone; the first steps
    counted."""
    monkeypatch.setattr(arena, "Contestant", Recorded)
    monkeypatch.setattr(arena, "PAUSE", 0)
    monkeypatch.setattr(Recorded, "asked", [])
    names, builds = ["ours", "torch_eager"], {"32": {"family": "small"}, "64": {"family": "large"}}
    outcomes = arena.series(names, builds, rounds=2, turn=0.05)
    asked = [(name, family) for name, family, steps in Recorded.asked if steps > 3]  # 3: to see how long a step takes
    first = [("ours", "small"), ("torch_eager", "small"), ("ours", "large"), ("torch_eager", "large")]
    assert asked == first + [first[1], first[0], first[3], first[2]]
    for by_contestant in outcomes.values():
        for outcome in by_contestant.values():
            assert set(outcome.steps) == {0.01} and len(outcome.steps) == 2 * round(0.05 / 0.01)


def test_how_far_a_sweep_is_from_proportional():
    assert report.proportional({32: 64.0, 64: 128.0}) == (2.0, 0.0)
    each, off = report.proportional({10: 9.0, 20: 20.0, 30: 33.0})  # 0.9, 1.0 and 1.1 each
    assert each == pytest.approx(1) and off == pytest.approx(0.1)
    text = report.sweep("ddpm", "batch", {"16": {"ours": 160.0}, "32": {"ours": 36.0}, "64": {"ours": 64.0}})
    assert "from 32 to 64: within 5.9% of 1.06 ms" in text  # whatever 16 costs
    failed = {"32": {"ours": 36.0}, "64": {"ours": 64.0}, "512": {"ours": math.nan}}
    assert "from 32 to 64: within 5.9%" in report.sweep("ddpm", "batch", failed)
    assert "within" not in report.sweep("ddpm", "batch", {"512": {"ours": math.nan}})


def test_speed_without_torch(monkeypatch, capsys, tmp_path):
    """Catches: a benchmark that needs PyTorch to measure Inkling."""
    monkeypatch.setattr(speed, "torch_is_installed", lambda: False)
    monkeypatch.setattr(speed, "ask_once", lambda name, do, **options: {"gflop": 1.0})
    monkeypatch.setattr(speed, "match", lambda names, *rest: {n: Outcome([0.1], [0.1], 8, 1.0, 9.0) for n in names})
    path = tmp_path / "speed.json"
    assert speed.main(["--families", "vae", "--no-startup", "--json", str(path)]) == 0
    assert "PyTorch is not installed" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["families"]["vae"]["ours_ms"] == pytest.approx(100) and written["families"]["vae"]["ratio"] is None
    assert written["machine"]["cores"]


def test_memory_of_workers_counts():
    """Catches: figures of memory that leave out what the worker processes take."""

    def work(index: int, request) -> None:
        kept.append(np.ones(30_000_000 * index, np.uint8))

    kept: list = []
    before, pool = memory.reset_peak(), ProcessPool(work, 2)
    pool.run(None)
    assert memory.peak_megabytes() - before > 25 and memory.resident_megabytes() > 25
    pool.close()
    assert memory.workers_megabytes() == 0
