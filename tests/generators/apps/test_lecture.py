"""The lecture on tiny models: each claim has its figure and picture in both languages, and no figure is typed in."""
import re
from collections import Counter
from html import unescape
from pathlib import Path
from string import Formatter

import numpy as np
import pytest

import datasets
from generators import registry
from generators.apps import experiments, lecture
from generators.judging import metrics
from generators.plans import default_config
from nn.parallel import Threads, derive_rng
from tests.docs.pages import HOME
from tests.generators.toys import toy_data

ENDS = sorted(lecture.SECTIONS)


def tiny(name, digits):
    """A model of this name as it begins."""
    family = "gan" if name == "gan-no-noise" else name
    row = registry.FAMILIES[family]
    data = digits if row.data == "digits" else datasets.load(row.data, "train", 8)
    settings = {**vars(default_config(family, data)), **row.tiny, **({"noise": 0} if family != name else {})}
    model = registry.build(family, registry.family(family).Config(**settings), derive_rng(0, name))
    if data is digits:
        tokens = model.vocabulary.encode(digits.captions(np.arange(16)))
        model.prepare(digits.images[:16] / np.float32(255), tokens, derive_rng(0, "prepare"))
    return model


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """held(names): the folder of a lecture with these models."""
    patch, digits = pytest.MonkeyPatch(), toy_data(600)
    patch.setattr(experiments, "COUNT", 20)
    patch.setattr(experiments, "LEVELS", np.array([0.5, 5.0]))

    def hold(names):
        out, test = tmp_path_factory.mktemp("lecture"), datasets.load("digits", "test", 400)
        models = {name: tiny(name, digits) for name in names}
        lecture.Lecture(experiments.Experiments(out, models, digits, test, 0, Threads(1))).hold()
        return out

    yield hold
    patch.undo()


@pytest.fixture(scope="module")
def whole(held):
    return held(experiments.LABELS)


def test_no_two_models_have_one_label():
    """Catches a row of a picture that is lost below another's."""
    assert len(set(experiments.LABELS.values())) == len(experiments.LABELS)


def test_the_real_sevens_beside_the_painted_ones_are_sevens(tmp_path):
    test = datasets.load("digits", "test", 200)
    found = experiments.Experiments(tmp_path, {}, test, test, 0, Threads(1)).eight()
    sevens = test.images[test.labels == 7][:8] / np.float32(255)
    assert found["real"] == pytest.approx(metrics.variety(sevens))


def test_what_is_painted_is_compared_with_other_test_images(tmp_path):
    """Catches a reference of a few images, or one with those whose captions are painted."""
    test = datasets.load("digits", "test", 3 * experiments.COUNT)
    made = experiments.Experiments(tmp_path, {"classifier": None}, test, test, 0, Threads(1))
    np.testing.assert_array_equal(made.reference.test.images, test.images[: 2 * experiments.COUNT])


class Black:
    def sample(self, captions, rng, threads, **options):
        return np.zeros((len(captions), 28, 28, 1), np.float32)


def test_the_average_is_compared_with_the_mean_of_each_class(tmp_path):
    digits = toy_data(300)
    made = experiments.Experiments(tmp_path, {"regression": Black()}, digits, digits, 0, Threads(1))
    images = digits.images.astype(float) / 255
    means = np.stack([images[digits.labels == label].mean(axis=0) for label in range(10)])
    found = made.average()
    assert found["distance"] == pytest.approx(np.sqrt((means**2).mean()))
    assert found["spread"] == pytest.approx(np.sqrt(((images - means[digits.labels]) ** 2).mean()))
    assert experiments.unit(np.array([0, 51, 255], np.uint8)).tolist() == pytest.approx([0, 0.2, 1])


def fields(text):
    """Name and format of each field."""
    return [(name, form) for _, name, form, _ in Formatter().parse(text) if name]


def lines(text):
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("end", ENDS)
def test_every_claim_has_its_figures_and_pictures(whole, end):
    """Catches: an experiment that is never made, a field that no experiment has, a picture that was not written."""
    text, template = (whole / f"lecture{end}.md").read_text(encoding="utf-8"), "\n## ".join(lecture.SECTIONS[end])
    assert "{" not in text and len(lines(text)) == len([line for line in lines(template) if "{missing." not in line])
    claims = text.split("\n## ")[1:]
    assert [claim.partition(".")[0] for claim in claims] == [str(number) for number in range(1, 13)]
    for claim, section in zip(claims, lecture.SECTIONS[end][1:], strict=True):
        found = re.findall(r"!\[.+\]\((.+)\)", claim)
        assert found and all((whole / file).stat().st_size > 100 for file in found)
        assert any(form for _, form in fields(section)), section
        assert all((whole / file).exists() for file in re.findall(r"\]\((\.\.[^)]+)\)", claim))


@pytest.mark.parametrize("end", ENDS)
def test_no_figure_is_typed_in_by_hand(end):
    """Catches: a result that was true of the weights of one day."""
    template = "\n## ".join(lecture.SECTIONS[end])
    words = "".join(text for text, *_ in Formatter().parse(template))
    assert re.findall(r"\d+", words) == []


def test_both_languages_name_the_same_figures_and_files():
    for one, other in zip(*lecture.SECTIONS.values(), strict=True):
        assert Counter(fields(one)) == Counter(fields(other))
        assert re.findall(r"`.+?`\]\(.+?\)", one) == re.findall(r"`.+?`\]\(.+?\)", other)


@pytest.mark.parametrize("end", ENDS)
def test_the_page_says_what_the_text_says(whole, end):
    """Word for word, and as many pictures; in itself whole, in its language."""
    page = (whole / f"index{end}.html").read_text(encoding="utf-8")
    assert f'<html lang="{end[1:] or "en"}">' in page and 'src="lecture/' not in page
    text = (whole / f"lecture{end}.md").read_text(encoding="utf-8")
    shown = len(re.findall(r"^!\[", text, flags=re.M))
    assert page.count('src="data:image') + page.count("<svg") == shown
    words = re.sub(r"!?\[(.*?)\]\(.*?\)|^[|-]+$", r" \1 ", text, flags=re.M)
    body = unescape(re.sub(r"<svg.*?</svg>|<nav.*?</nav>|<[^>]+>", " ", page.partition("<main>")[2]))
    assert Counter(re.sub("[`#|]", " ", words).split()) == Counter(body.split())


def test_what_a_missing_model_would_show_is_named_with_the_command_that_trains_it(held):
    """Catches: an experiment that fails, or a head without rows, where a model does not come along."""
    text = (held(["gan"]) / "lecture.md").read_text()
    assert len(text.split("\n## ")) == 13 and "inkling train dit" in text and "contest.svg" in text
    assert "| painter |" not in text and "caption alone" not in text


@pytest.mark.parametrize("end", ENDS)
def test_the_documents_are_of_this_text(end):
    """Catches: sentences that were changed, and docs/ not made anew by `inkling lecture --out docs`."""
    page = HOME / f"docs/lecture{end}.md"
    text = page.read_text(encoding="utf-8")
    sections = [f"{n}. {s}" if n else s for n, s in enumerate(lecture.SECTIONS[end])]
    forms = [re.compile(re.sub(r"\\\{[^}]*\\\}", ".*?", re.escape(line.replace("](/", "](../"))))
             for line in lines("\n## ".join(sections))]  # fmt: skip
    assert [line for line in lines(text) if not any(form.fullmatch(line) for form in forms)] == []
    assert sum(file.stat().st_size for file in Path(HOME / "docs/lecture").iterdir()) < 1_500_000
