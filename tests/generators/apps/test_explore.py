"""The explorer, asked as its page asks, and as nobody should; and its page in a browser, where there is one."""
import base64
import json
import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

import datasets
from datasets.captions import HANDWRITING
from generators import registry
from generators.apps import explore, server
from generators.apps.play import Game
from generators.cli import main
from nn.parallel import Threads, derive_rng

NAMES = ("ddpm", "gan", "realnvp", "regression", "vae")


def tiny(name):
    row = registry.FAMILIES[name]
    words = {"vocabulary": HANDWRITING.vocabulary, "language": HANDWRITING.name} if row.data == "digits" else {}
    model = registry.build(name, registry.family(name).Config(**row.tiny, **words), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for parameter in model.parameters():  # else what begins at zero would make every picture the same
        parameter.data += rng.standard_normal(parameter.shape, np.float32) * np.float32(0.02)
    return model


@contextmanager
def page(names=NAMES):
    """The address of the page of tiny models and of a world, while it is served."""
    world = tiny("world")
    world.keys = {"left": 0, "next": 1}
    models = {name: tiny(name) for name in names}
    with explore.server(models, Game(world, np.zeros(world.image_shape, np.float32)), Threads(1)) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served.address
        served.shutdown()


@pytest.fixture(scope="module")
def address():
    few = {"DRAWN": 200, "DENOISED": 100}
    with pytest.MonkeyPatch.context() as patch, page() as served:
        for name, count in few.items():
            patch.setattr(explore, name, count)
        yield served


def ask(address, path="/", body=None, **headers):
    base, _, token = address.partition("/?token=")
    address = base + path + (f"?token={token}" if body is None else "")
    request = urllib.request.Request(address, body, {"X-Token": token} | headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def told(address, path, **asked):
    status, answer = ask(address, path, json.dumps(asked).encode())
    assert status == 200, answer
    return json.loads(answer)


def levels(answer):
    return np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(answer["shape"])


def test_nobody_else_is_answered(address):
    """Catches an answer without the token, to another host's name, or to a page of another origin."""
    own = address.partition("/?")[0]
    assert ask(address)[0] == 200 == ask(address, "/about", b"{}", Origin=own)[0]
    for headers in ({"X-Token": "wrong"}, {"Host": "evil.example:80"}, {"Origin": "http://evil.example"},
                    {"Origin": "null"}, {"Origin": own + "1"}):  # fmt: skip
        assert ask(address, "/about", b"{}", **headers)[0] == 403, headers
    assert ask(address.replace("token=", "token=x"))[0] == 403
    assert ask(address, "/../etc/passwd")[0] == 404 == ask(address, "/_model", b"{}")[0]
    assert ask(address, "/step", b" " * (server.LARGEST_REQUEST + 1))[0] == 413


PICTURE = base64.b64encode(bytes(784)).decode()


@pytest.mark.parametrize(
    "path, asked, sentence",
    [
        ("/step", "[]", "a request is a JSON object; given []"),
        ("/step", "{" * 50_000, ""),
        ("/say", "{}", "'' cannot sample; ddpm, gan, realnvp, regression, vae can"),
        ("/say", '{"model": ["vae"]}', "expected str"),
        ("/say", '{"model": "vae", "caption": "sevn"}', "did you mean 'seven'"),
        ("/say", '{"model": "vae", "count": 17}', "between 1 and 16"),
        ("/say", '{"model": "vae", "temperature": NaN}', "finite"),
        ("/say", '{"model": "ddpm", "steps": 900}', "from 1 to 12; given 900"),
        ("/say", '{"model": "vae", "n": 1}', "no 'n'"),
        ("/change", '{"model": "vae", "caption": "a two", "wanted": "with a bar"}', "a two is never 'with a bar'"),
        ("/turn", '{"model": "gan"}', "'gan' cannot edit; ddpm, realnvp, vae can"),
        ("/turn", '{"model": "vae", "numbers": [1]}', "turned by 4 numbers; given 1"),
        ("/turn", '{"model": "vae", "numbers": [1, 2, 3, 1e9]}', "between -10 and 10"),
        ("/turn", '{"model": "realnvp", "numbers": [1, "2", 3]}', "expected float"),
        ("/denoise", '{"model": "vae"}', "'vae' cannot denoise"),
        ("/walk", '{"model": "regression"}', "'regression' cannot interpolate"),
        ("/read", '{"model": "gan"}', "'gan' cannot weigh; ddpm, realnvp, vae can"),
        ("/read", '{"model": "vae", "pixels": "AAAA"}', "28 x 28 pixels; given 3"),
        ("/read", '{"model": "vae", "pixels": "~"}', ""),
        ("/fill", f'{{"model": "ddpm", "pixels": "{PICTURE}", "mask": "{PICTURE}"}}', "true for 784"),
        ("/edit", f'{{"model": "vae", "pixels": "{PICTURE}", "wanted": "sevn"}}', "did you mean 'seven'"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(address, path, asked, sentence):
    """Catches an answer that ends the connection, for want of a check, instead of a sentence for the page."""
    status, answer = ask(address, path, asked.encode())
    assert status == 400 and sentence in answer.decode()


def test_a_drawing_is_read_where_there_is_nothing_to_say():
    """Catches a page that does not work for a model of a folder without classes."""
    row = registry.FAMILIES["vae"]
    model = registry.build("vae", registry.family("vae").Config(**row.tiny), np.random.default_rng(0))
    asked = explore.Asked(model="vae", pixels=PICTURE)
    answer = explore.Explorer({"vae": model}, None, Threads(1)).read(asked)
    assert (answer["caption"], answer["shares"], answer["again"]["shape"]) == ("", {}, (1, 28, 28, 1))


def test_pictures_are_the_models_own(address):
    """Catches options that do not arrive, pictures in another order, and a drawing that is turned or too dark."""
    samples = tiny("vae").sample(["seven"] * 3, derive_rng(5, "samples", 0), temperature=0.5)
    asked = {"model": "vae", "caption": "seven", "count": 3, "seed": 5, "temperature": 0.5}
    np.testing.assert_array_equal(levels(told(address, "/say", **asked)), np.rint(samples * 255))
    z = [0.5, -1, 2, 0]
    turned = tiny("vae").decode(np.array([z], np.float32), ["seven"])
    np.testing.assert_array_equal(levels(told(address, "/turn", model="vae", caption="seven", numbers=z)),
                                  np.rint(turned * 255))  # fmt: skip
    noisy, believed = tiny("ddpm").denoise(["two"], derive_rng(0, "samples", 0), steps=4, guidance=0)
    film = told(address, "/denoise", model="ddpm", caption="two", steps=4, guidance=0)
    np.testing.assert_array_equal(levels(film["noisy"]), np.rint(noisy[:, 0] * 255))
    np.testing.assert_array_equal(levels(film["believed"]), np.rint(believed[:, 0] * 255))
    digit = told(address, "/digit", seed=7)
    image = datasets.load("digits", "test", 8).images[7:]
    np.testing.assert_array_equal(levels(digit), image)
    read = told(address, "/read", model="realnvp", pixels=digit["pixels"])
    np.testing.assert_array_equal(levels(read["again"]), image)  # a flow loses nothing, whatever it takes it for
    assert list(read["shares"]) == list(HANDWRITING.attributes["digit"])
    assert HANDWRITING.parse(read["caption"]).keys() == HANDWRITING.attributes.keys()
    mask = np.zeros((28, 28), np.uint8)
    mask[14:] = 255
    pixels = {"pixels": digit["pixels"], "mask": base64.b64encode(mask.tobytes()).decode()}
    filled = levels(told(address, "/fill", model="ddpm", count=2, **pixels))
    np.testing.assert_array_equal(filled[:, :14], np.repeat(image, 2, axis=0)[:, :14])
    assert (filled[0, 14:] != image[0, 14:]).any() and (filled[0] != filled[1]).any()
    edited = told(address, "/edit", model="vae", pixels=digit["pixels"], caption="a thin two", wanted="bold")
    expected = tiny("vae").edit(image / np.float32(255), ["a thin two"], ["a bold two"])
    assert edited["caption"] == "a bold two"
    np.testing.assert_array_equal(levels(edited), np.rint(expected * 255))
    assert len(levels(told(address, "/walk", model="gan", caption="two", other="two"))) == explore.WALK


def test_what_a_direction_does_depends_on_how_far_one_goes(monkeypatch):
    """Catches a slider that turns another attribute, or the wrong way round."""
    monkeypatch.setattr(explore, "DRAWN", 200)
    model, asked = tiny("realnvp"), {"model": "realnvp", "caption": "a bold seven, small", "seed": 3}
    asker = explore.Explorer({"realnvp": model}, None, Threads(1))
    stroke = asker.directions(model).between("a thin seven", "a bold seven")
    z = model.noise(1, derive_rng(3, "samples", 0)) + 0.5 * model.direction_amount * stroke
    expected = model.decode(z.astype(np.float32), ["a seven"], guidance=model.config.guidance)
    turned = levels(asker.answers["/turn"]({**asked, "numbers": [0.5, 0, 0]}))
    np.testing.assert_allclose(turned, expected * 255, atol=1)


def test_the_page_in_a_browser(address):
    """Catches a panel whose script fails, under its own policy, and a picture that does not change."""
    sync = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    with sync.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except sync.Error as error:
            pytest.skip(f"no Chromium for the browser's tests: {str(error).splitlines()[0]}")
        view = browser.new_page(viewport={"width": 390, "height": 800})
        view.set_default_timeout(120_000)
        errors = []
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        view.goto(address)
        sync.expect(view.locator("#status")).to_contain_text("All is ready", timeout=300_000)

        def changes(canvas, act):
            """The picture on a canvas is another one after this, and the panel has no complaint."""
            before = canvas.evaluate("canvas => canvas.toDataURL()")
            act()
            sync.expect(view.locator("[aria-busy]")).to_have_count(0, timeout=300_000)
            assert not any(view.locator(".error").all_text_contents())
            assert canvas.evaluate("canvas => canvas.toDataURL()") != before

        def press(panel, name):
            view.locator(panel).get_by_role("button", name=name, exact=True).click()
            sync.expect(view.locator("[aria-busy]")).to_have_count(0, timeout=300_000)

        view.locator("#say [name=count]").fill("2")
        press("#say", "Paint")
        sync.expect(view.locator("#say canvas")).to_have_count(2 * len(NAMES))
        view.locator("#say summary").click()
        press("#say", "slanting left")
        sync.expect(view.locator("#say [name=caption]")).to_have_value("a bold seven with a bar, slanting left")
        changes(view.locator("#say canvas").first, lambda: press("#say", "Paint"))

        picture, slider = view.locator("#turn canvas"), view.locator("#turn input[type=range]").first
        for model in ("vae", "realnvp", "ddpm"):
            changes(picture, lambda model=model: view.locator("#turn [name=model]").select_option(model))
            changes(picture, lambda: slider.press("End"))

        for number, button in enumerate(("Denoise", "Walk")):
            part = view.locator("#scrub > div").nth(number)
            if button == "Denoise":
                part.locator("[name=steps]").fill("6")
            canvases, moment = part.locator("canvas"), part.locator("[type=range]")
            changes(canvases.first, lambda button=button: press("#scrub", button))
            changes(canvases.first, lambda moment=moment: moment.press("End"))
            changes(canvases.last, lambda moment=moment: moment.press("Home"))

        pad = view.locator("#draw canvas.pad")

        def stroke():
            pad.scroll_into_view_if_needed()
            frame = pad.bounding_box()
            view.mouse.move(frame["x"] + 60, frame["y"] + 60)
            view.mouse.down()
            view.mouse.move(frame["x"] + 160, frame["y"] + 200, steps=4)
            view.mouse.up()

        changes(pad, lambda: press("#draw", "Take a digit that none has seen"))
        changes(pad, stroke)
        press("#draw", "Read and repaint")
        sync.expect(view.locator("#draw .reading")).to_have_count(3)
        press("#draw", "Edit")
        sync.expect(view.locator("#draw .output canvas")).to_have_count(6)
        changes(pad, lambda: press("#draw", "Wipe"))
        stroke()
        assert view.evaluate("Math.max(...pad.levels)") > 200  # two pixels of the picture wide, and not a hair

        begun = view.locator("#fill canvas.pad")
        changes(begun, lambda: press("#fill", "Take the drawing above"))
        changes(begun, lambda: press("#fill", "Rub out the lower half"))
        press("#fill", "Fill in")
        sync.expect(view.locator("#fill .output canvas")).to_have_count(4)

        world = view.locator("#world")
        changes(world, lambda: world.press("ArrowLeft"))
        sync.expect(view.locator("#count")).to_have_text("Frames so far: 2.")
        changes(world, lambda: press("#play", "next"))
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth") and not errors
        view.locator("#say [name=caption]").fill("a sevn")
        press("#say", "Paint")
        sync.expect(view.locator("#say .error")).to_contain_text("did you mean 'seven'")
        browser.close()


def test_what_cannot_be_explored_is_refused(capsys):
    assert main(["explore", "classifier", "--no-browser"]) == 2
    assert "classifier holds a classifier, and not a painter of images or a world" in capsys.readouterr().err
