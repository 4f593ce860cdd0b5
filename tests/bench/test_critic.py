"""What the bench of critics trains and measures, on very little."""
import json

import pytest

from bench import critic
from generators import registry


def test_students_and_teachers_are_measured_alike(tmp_path, capsys, monkeypatch):
    """Catches: a student that does not begin with its teacher, settings that do not arrive, a table without a row."""
    options = ["--only=diffusion", "--teacher=ddpm", "--steps=1", "--images=60", "-n=20", "--student-steps", "1"]
    changed = ["--set=batch_size=4", "--set=critic_width=8", "--no-rivals", "--threads=1", f"--out={tmp_path}"]
    monkeypatch.setattr(critic, "TEACHER_STEPS", (2, 1))
    assert critic.main([*options, *changed]) == 0
    rows = json.loads((tmp_path / "critic.json").read_text())
    assert list(rows) == ["ddpm in 2", "ddpm in 1", "fewstep in 1"]
    assert rows["fewstep in 1"]["steps"] == 1 and rows["fewstep in 1"]["pictures_a_second"] > 0
    # One step at a rate in its warm-up changes next to nothing.
    assert rows["fewstep in 1"]["fid"] == pytest.approx(rows["ddpm in 1"]["fid"], rel=0.05)
    model, meta = registry.open_run(tmp_path / "in-1" / "fewstep-1-steps-seed-0")
    assert (meta["plan"]["origin"], model.config.batch_size, model.config.critic_width) == ("ddpm", 4, 8)
    assert capsys.readouterr().out.count("\n| ") == 5 and (tmp_path / "samples.png").exists()


def test_a_budget_in_steps_or_minutes_is_shared_out():
    options = critic._parser().parse_args(["--steps", "9"])
    contest = object.__new__(critic.Contest)
    contest.options = options
    assert contest.budget(0.5) == (5.0, 4)
    options.steps = None
    assert contest.budget(0.5) == (5.0, None)
