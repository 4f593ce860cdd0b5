"use strict";
const token = new URLSearchParams(location.search).get("token");
const one = (where, selector) => where.querySelector(selector);
const all = (where, selector) => [...where.querySelectorAll(selector)];
let models = {}, phrases = {};

// --- talking to Python, which computes one thing at a time

async function ask(path, body = {}) {
  const answer = await fetch(path, {method: "POST", headers: {"X-Token": token}, body: JSON.stringify(body)});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// The work, once more if it was asked for while it ran: a slider that is dragged asks faster than is painted.
function latest(work) {
  let busy = false, again = false;
  return async () => {
    again = true;
    if (busy) return;
    for (busy = true; again;) {
      again = false;
      await work();
    }
    busy = false;
  };
}

// The work of a panel: what goes wrong is said there.
async function within(panel, work) {
  const error = one(panel, ".error");
  panel.setAttribute("aria-busy", "true");
  try {
    await work();
    error.textContent = "";
  } catch (problem) {
    error.textContent = problem instanceof TypeError ? "Inkling does not answer; is it still running?" : problem.message;
  }
  panel.removeAttribute("aria-busy");
}

// What stands in the fields of a panel; an empty number is left out, for the model has its own.
function fields(panel, ...names) {
  const told = {};
  for (const name of names) {
    const field = one(panel, `[name=${name}]`);
    if (field.type !== "number") told[name] = field.value;
    else if (field.value !== "") told[name] = Number(field.value);
  }
  return told;
}

// --- pictures

function unpack({shape: [count, height, width, channels], pixels}) {
  const levels = Uint8Array.from(atob(pixels), letter => letter.charCodeAt(0)), size = height * width * channels;
  return Array.from({length: count}, (_, i) => (
    {height, width, channels, levels: levels.subarray(i * size, (i + 1) * size)}));
}

function show(canvas, {height, width, channels, levels, ink = channels === 1 && canvas.id !== "world"}) {
  Object.assign(canvas, {height, width});
  canvas.classList.toggle("ink", ink);
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++)
    for (let c = 0; c < 4; c++) image.data[4 * i + c] = c === 3 ? 255 : levels[i * channels + c % channels];
  context.putImageData(image, 0, 0);
}

function made(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

function tile(picture, label) {
  const canvas = made("canvas", {role: "img", ariaLabel: label});
  show(canvas, picture);
  return canvas;
}

// --- the panels

const say = one(document, "#say"), turn = one(document, "#turn"), draw = one(document, "#draw");
const [denoising, walking] = all(document, "#scrub > div");
const actions = {};

actions.say = () => within(say, async () => {
  const {model, ...told} = fields(say, "model", "caption", "count", "seed", "temperature", "guidance", "steps");
  const rows = [];
  for (const name of model ? [model] : able("sample")) {
    const tiles = unpack(await ask("/say", {...told, model: name})).map(picture => tile(picture, told.caption));
    rows.push(made("div", {className: "row"}, made("span", {textContent: name, title: models[name].summary}),
      made("div", {className: "tiles"}, ...tiles)));
    one(say, ".output").replaceChildren(...rows);
  }
});

const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
let seed = 0;

function setSliders() {
  const {latent, turns} = models[one(turn, "[name=model]").value], sliders = one(turn, ".sliders");
  const names = latent ? Array.from({length: latent}, (_, i) => `number ${i + 1} of z`)
    : turns.map(name => `${phrases[name][0]} to ${phrases[name].at(-1)}`);
  sliders.classList.toggle("few", !latent);
  sliders.replaceChildren(...names.map(name => made("label", {textContent: name}, made("input", {
    type: "range", min: latent ? -3 : -1.5, max: latent ? 3 : 1.5, step: .05, value: latent ? normal() : 0,
    oninput: follow}))));
  follow();
}

const follow = latest(() => within(turn, async () => {
  const told = fields(turn, "model", "caption"), began = performance.now();
  const note = one(turn, ".note"), slow = setTimeout(() => {
    note.textContent = "Measuring the directions on drawn digits, once for each digit ...";
  }, 1500);
  const values = all(turn, ".sliders input").map(input => Number(input.value));
  try {
    const answer = await ask("/turn", {...told, seed, numbers: values});
    show(one(turn, "canvas"), unpack(answer)[0]);
    note.textContent = `Painted in ${Math.round(performance.now() - began)} ms.`;
  } finally {
    clearTimeout(slow);
  }
}));

actions.noise = () => { seed++; setSliders(); };

// Films to scrub through by the slider of a panel, one for each of its pictures.
function scrub(panel, films) {
  const slider = one(panel, "[name=moment]"), canvases = all(panel, "canvas");
  slider.max = films[0].length - 1;
  slider.oninput = () => canvases.forEach((canvas, i) => show(canvas, films[i][slider.value]));
  slider.oninput();
}

actions.denoise = () => within(denoising, async () => {
  const {noisy, believed} = await ask("/denoise", fields(denoising, "model", "caption", "seed", "steps"));
  scrub(denoising, [unpack(noisy), unpack(believed)]);
});

actions.walk = () => within(walking, async () => {
  scrub(walking, [unpack(await ask("/walk", fields(walking, "model", "caption", "other", "seed")))]);
});

// A square to draw on: strokes on a fine sheet, of which each pixel is the mean.
class Pad {
  constructor(canvas, height, width, lineWidth = 23) {
    this.fine = made("canvas", {width: 10 * width, height: 10 * height});
    this.context = this.fine.getContext("2d", {willReadFrequently: true});
    Object.assign(this.context, {lineCap: "round", lineJoin: "round", lineWidth, strokeStyle: "#fff"});
    Object.assign(this, {canvas, height, width});
    canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); this.last = null; this.stroke(event); };
    canvas.onpointermove = event => { if (event.buttons) this.stroke(event); };
    this.wipe();
  }
  stroke(event) {
    const frame = this.canvas.getBoundingClientRect();
    const x = (event.clientX - frame.x) / frame.width * this.fine.width;
    const y = (event.clientY - frame.y) / frame.height * this.fine.height;
    this.context.beginPath();
    this.context.moveTo(...(this.last || [x, y]));
    this.context.lineTo(x, y);
    this.context.stroke();
    this.last = [x, y];
    const sheet = this.context.getImageData(0, 0, this.fine.width, this.fine.height).data;
    const sums = new Float64Array(this.height * this.width);
    for (let i = 0; i < sheet.length / 4; i++)
      sums[Math.floor(i / this.fine.width / 10) * this.width + Math.floor(i % this.fine.width / 10)] += sheet[4 * i];
    this.put(Uint8Array.from(sums, (sum, i) => Math.max(this.below[i], Math.round(sum / 100))));
  }
  put(levels, below = this.below) {
    Object.assign(this, {levels, below});
    show(this.canvas, {height: this.height, width: this.width, channels: 1, levels});
  }
  wipe() {
    this.context.fillRect(0, 0, this.fine.width, this.fine.height);
    const empty = new Uint8Array(this.height * this.width);
    this.put(empty, empty);
  }
  get pixels() { return btoa(String.fromCharCode(...this.levels)); }
}

// A picture of which a part is rubbed out, which shows in a colour.
class Rubber extends Pad {
  put(levels, below = this.below) {
    Object.assign(this, {levels, below});
    const colours = [...levels].flatMap((gone, i) => gone > 127 ? [215, 120, 70] : Array(3).fill(this.picture?.[i] || 0));
    show(this.canvas, {height: this.height, width: this.width, channels: 3, levels: colours, ink: true});
  }
  begin(picture) { this.picture = picture; this.wipe(); }
}

let pad, rubber, readings = {};
actions.wipe = () => { pad.wipe(); one(draw, ".note").textContent = ""; };

actions.digit = () => within(draw, async () => {
  const answer = await ask("/digit", {seed: Math.floor(2000 * Math.random())});
  const [{levels}] = unpack(answer);
  pad.wipe();
  pad.put(levels, levels);  // strokes go on top of it
  one(draw, ".note").textContent = `Its caption: ${answer.caption}.`;
});

async function read() {
  const {pixels} = pad;
  readings = {};
  for (const model of able("weigh")) {
    readings[model] = {pixels, ...await ask("/read", {model, pixels})};
    showReadings();
  }
}

actions.read = () => within(draw, read);

actions.edit = () => within(draw, async () => {
  if (!Object.values(readings).some(reading => reading.pixels === pad.pixels)) await read();
  const {wanted} = fields(draw, "wanted");
  for (const [model, reading] of Object.entries(readings)) {
    const {pixels, caption} = reading;
    reading.edited = await ask("/edit", {model, pixels, caption, wanted});
    showReadings();
  }
});

function showReadings() {
  one(draw, ".output").replaceChildren(...Object.entries(readings).map(([model, {caption, shares, again, edited}]) => {
    const likeliest = Object.entries(shares).map(([name, share]) => `${name} ${Math.round(100 * share)}%`).join(", ");
    const bars = Object.entries(shares).map(([name, share]) => {
      const bar = made("i");
      bar.style.height = `${2.5 * share}rem`;
      return made("span", {}, bar, name);
    });
    const then = edited && (edited.caption === caption ? "; it is so already" : `; then: ${edited.caption}`);
    return made("div", {className: "row reading"}, made("span", {textContent: model, title: models[model].summary}),
      tile(unpack(again)[0], "repainted"), edited ? tile(unpack(edited)[0], edited.caption) : made("span"),
      made("div", {}, made("div", {textContent: caption + (then || "")}),
        made("div", {className: "bars", role: "img", ariaLabel: likeliest, title: likeliest}, ...bars)));
  }));
}

const fill = one(document, "#fill");
actions.begun = () => rubber.begin(pad.levels);
actions.whole = () => rubber.wipe();
actions.half = () => {
  rubber.wipe();
  rubber.put(rubber.levels.map((_, i) => i < rubber.levels.length / 2 ? 0 : 255));
};
actions.fill = () => within(fill, async () => {
  const told = fields(fill, "model", "caption", "seed"), mask = rubber.pixels;
  const pixels = btoa(String.fromCharCode(...rubber.picture));
  const painted = unpack(await ask("/fill", {...told, pixels, mask, count: 4}));
  one(fill, ".output").replaceChildren(...painted.map(picture => tile(picture, "filled in")));
});

const play = one(document, "#play");
let busy = false;
const press = key => busy || within(play, async () => {  // a held key waits for the frame before
  busy = true;
  const said = await ask("/step", {key});
  show(one(play, "canvas"), unpack(said)[0]);
  one(play, "#count").textContent = `Frames so far: ${said.frames}.`;
  const names = said.keys.filter(name => name.length > 1 || /[0-9r]/.test(name));
  if (!one(play, "#keys").children.length)
    one(play, "#keys").append(...names.map(name => made("button", {
      textContent: name === "r" ? "again" : name, onclick: () => press(name)})));
}).finally(() => { busy = false; });

// --- at the beginning

const able = verb => Object.keys(models).filter(name => models[name].can.includes(verb));

function addWords() {
  const caption = one(say, "[name=caption]");
  const add = wanted => within(say, async () => {
    caption.value = await ask("/change", {model: able("sample")[0], caption: caption.value, wanted});
  });
  for (const [name, group] of Object.entries(phrases))
    one(say, ".words").append(made("div", {}, `${name}: `, ...group.map(wanted => made("button", {
      type: "button", textContent: wanted, onclick: () => add(wanted)}))));
  for (const wanted of Object.values(phrases).flat()) one(draw, "[name=wanted]").append(new Option(wanted));
  if (phrases.stroke) one(draw, "[name=wanted]").value = phrases.stroke.at(-1);
}

// Each thing once, so that nobody waits later; on a machine where it never ran, for minutes.
async function warm(model) {
  const {can} = models[model], picture = await ask("/say", {model});
  if (!can.includes("weigh")) return;
  const pixels = btoa(String.fromCharCode(...unpack(picture)[0].levels.filter((_, i) => i % picture.shape[3] === 0)));
  await ask("/read", {model, pixels});
}

async function begin() {
  const said = await ask("/about");
  ({models, phrases} = said);
  for (const part of all(document, "[data-can]"))
    part.hidden = part.dataset.can === "play" ? !said.game : !able(part.dataset.can).length;
  for (const select of all(document, "select[name=model]")) {
    const verbs = select.dataset.any?.split(" ") || [select.closest("[data-can]").dataset.can];
    if (select.dataset.all) select.append(new Option(select.dataset.all, ""));
    for (const name of Object.keys(models).filter(name => verbs.some(verb => models[name].can.includes(verb))))
      select.append(new Option(`${name}: ${models[name].summary}`, name));
  }
  one(document, "nav").append(...all(document, "section").filter(section => !section.hidden).map(section => made(
    "a", {href: `#${section.id}`, textContent: one(section, "h2").textContent})));
  for (const button of all(document, "[data-do]")) button.onclick = () => actions[button.dataset.do]();
  for (const input of all(document, "input[name=caption], input[name=other]"))
    input.onkeydown = event => { if (event.key === "Enter") one(input.closest(".controls"), "button").click(); };
  if (able("sample").length) addWords();
  if (able("weigh").length) pad = new Pad(one(draw, ".pad"), ...models[able("weigh")[0]].shape.slice(0, 2));
  const digits = phrases.digit && pad?.height === 28;
  one(draw, "[data-do=digit]").hidden = !digits;
  if (digits) await actions.digit();
  if (able("inpaint").length) {
    rubber = new Rubber(one(fill, ".pad"), pad.height, pad.width, 60);
    actions.begun();
  }
  const status = one(document, "#status");
  for (const model of Object.keys(models)) {
    status.textContent = `Preparing ${model}: its code is compiled, once on a machine, which may take a minute ...`;
    await warm(model);
  }
  status.textContent = "All is ready. Nothing leaves this machine, and nothing is kept.";
  if (able("edit").length) {
    one(turn, "[name=model]").value = able("edit").find(name => models[name].latent) || able("edit")[0];
    one(turn, "[name=model]").onchange = setSliders;
    one(turn, "[name=caption]").oninput = follow;
    setSliders();
  }
  if (said.game) {
    one(play, "canvas").onkeydown = event => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.key === "Tab") return;
      event.preventDefault();
      press(event.key.replace("Arrow", "").toLowerCase());
    };
    await press("");
    if (!Object.keys(models).length) one(play, "canvas").focus();
  }
}

begin().catch(problem => { one(document, "#status").textContent = `This page does not work: ${problem.message}`; });
