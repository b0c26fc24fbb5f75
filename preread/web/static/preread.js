// Keys of all pages, and the viewer of a study. Pages are made by the server; without this file they still read.
"use strict";
const AHEAD = 6; // slices fetched before they are asked for, in the direction of scrolling
const KEPT_PIXELS = 64e6; // of pictures kept in memory
let viewer = null;

// ---- rows by keyboard: j, k, Enter, / and ? -------------------------------------------------------------------
let chosenRow = null; // id of the row, so that it stays chosen when the list is replaced
const rows = () => [...document.querySelectorAll("[data-row]")];

function choose(id) {
  chosenRow = id;
  rows().forEach((row) => row.classList.toggle("chosen", row.id === id));
}

function step(by) {
  const all = rows(), now = all.findIndex((row) => row.id === chosenRow);
  const row = all[now < 0 ? 0 : Math.max(0, Math.min(all.length - 1, now + by))];
  if (!row) return;
  choose(row.id);
  row.scrollIntoView({ block: "nearest" });
}

const pageKeys = {
  j: () => step(1),
  k: () => step(-1),
  Enter: () => document.getElementById(chosenRow)?.querySelector("a")?.click(),
  "/": () => document.getElementById("q")?.focus(),
  u: () => document.querySelector("[data-back]")?.click(),
  "?": () => document.getElementById("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=range])")) return event.key === "Escape" && event.target.blur();
  // Enter on a link or a button is theirs.
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const action = viewer?.keys[event.key] || pageKeys[event.key];
  if (action) { event.preventDefault(); action(); }
});

document.addEventListener("click", (event) => {
  document.getElementById(event.target.closest("[data-open]")?.dataset.open)?.showModal();
  const row = event.target.closest("[data-row]");
  if (row && !event.target.closest("a") && !String(getSelection())) row.querySelector("a").click();
  const lesion = event.target.closest("[data-lesion]");
  if (lesion && viewer?.series === lesion.dataset.series && viewer.show(lesion.dataset.key)) event.preventDefault();
});

// ---- living parts: nothing is asked for while nobody looks, and the chosen row stays -------------------------
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.pathInfo.requestPath.startsWith("/live/")) event.preventDefault();
});

// Not afterSwap: htmx sets the class of a row once more when it settles.
document.addEventListener("htmx:afterSettle", () => { choose(chosenRow); viewer?.mark(); });

document.addEventListener("htmx:load", (event) => {
  const figure = event.detail.elt.closest("#viewer") || event.detail.elt.querySelector("#viewer");
  if (figure) viewer = makeViewer(figure);
});

// ---- the viewer of one series --------------------------------------------------------------------------------
function makeViewer(figure) {
  const { base, overlay, series } = figure.dataset;
  const [count, center, width, aspect] = ["count", "center", "width", "aspect"].map((name) => Number(figure.dataset[name]));
  const marks = JSON.parse(figure.dataset.marks), places = JSON.parse(figure.dataset.keys);
  const find = (selector) => figure.querySelector(selector);
  const stage = find(".stage"), layer = find(".overlay"), slider = find(".scroll"), strength = find(".strength"), trouble = find(".trouble");
  const pictures = new Map(); // address -> promise of a picture, for as long as the page is open
  let index = Number(figure.dataset.start), direction = 1, asked = 0, painted = 0, kept = 200;
  let drawn = true, filled = false, view = { center, width };

  const sliceAt = (i) => `${base}/${i}.png?center=${view.center.toPrecision(6)}&width=${view.width.toPrecision(6)}`;
  const overlayAt = (i) => `${overlay}/${i}.png${filled ? "?fill=1" : ""}`;

  function picture(address) {
    if (!pictures.has(address)) {
      if (pictures.size >= kept) pictures.delete(pictures.keys().next().value);
      pictures.set(address, fetched(address).catch((error) => { pictures.delete(address); throw error; }));
    }
    return pictures.get(address);
  }

  async function draw() {
    const turn = ++asked, wanted = index, shown = { ...view };
    slider.value = wanted;
    mark();
    try {
      const wants = drawn && marks.includes(wanted);
      const [slice, lesions] = await Promise.all([picture(sliceAt(wanted)), wants ? picture(overlayAt(wanted)) : null]);
      if (turn < painted) return; // a later one was faster
      painted = turn;
      paint(find(".slice"), slice);
      if (lesions) paint(layer, lesions);
      layer.hidden = !lesions;
      trouble.hidden = true;
      stage.style.setProperty("--ratio", String(slice.width / (slice.height * aspect)));
      find("[data-place]").textContent = count > 1 ? `${wanted + 1} / ${count}` : "";
      find("[data-window]").textContent = `C ${short(shown.center)}  W ${short(shown.width)}`;
      figure.dataset.shown = String(wanted);
      kept = Math.max(20, KEPT_PIXELS / (slice.width * slice.height));
      for (let i = wanted + direction, n = 0; n < AHEAD && i >= 0 && i < count; i += direction, n++) {
        picture(sliceAt(i)).catch(() => {});
        if (drawn && marks.includes(i)) picture(overlayAt(i)).catch(() => {});
      }
    } catch (error) {
      [trouble.textContent, trouble.hidden] = [error.message, false];
    }
  }

  function go(to) {
    const next = Math.max(0, Math.min(count - 1, to));
    if (next === index) return;
    [direction, index] = [Math.sign(next - index), next];
    draw();
  }

  function mark() {
    for (const lesion of document.querySelectorAll("[data-lesion]"))
      lesion.classList.toggle("here", lesion.dataset.series === series && places[lesion.dataset.key] === index);
  }

  function toFinding(by) {
    const stops = [...new Set(Object.values(places))].sort((a, b) => a - b);
    const next = by > 0 ? stops.find((stop) => stop > index) : stops.filter((stop) => stop < index).pop();
    if (next !== undefined) go(next);
  }

  function toggle(name) {
    if (name === "overlay") drawn = !drawn;
    if (name === "fill") [filled, drawn] = [!filled, true];
    if (name === "reset") view = { center, width };
    find("[data-do=overlay]").setAttribute("aria-pressed", String(drawn));
    find("[data-do=fill]").setAttribute("aria-pressed", String(filled));
    draw();
  }

  function strengthen(by) {
    strength.value = Number(strength.value) + by;
    layer.style.opacity = String(Number(strength.value) / 100);
  }

  let held = null; // where a drag began: a mouse changes the window, a finger scrolls
  stage.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY, view: { ...view }, index, touch: event.pointerType === "touch" };
    stage.setPointerCapture(event.pointerId);
    figure.focus({ preventScroll: true });
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    const x = event.clientX - held.x, y = event.clientY - held.y;
    if (held.touch) return go(held.index + Math.round(x / 12));
    if (Math.abs(x) + Math.abs(y) < 4) return;
    view = { center: held.view.center + (y * width) / 300, width: Math.max(width / 500, held.view.width * Math.exp(x / 200)) };
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { held = null; });
  let turned = 0; // trackpads send many small steps
  stage.addEventListener("wheel", (event) => {
    if (count === 1 || event.ctrlKey) return;
    event.preventDefault();
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    if (Math.abs(turned) >= 40) { go(index + Math.sign(turned)); turned = 0; }
  }, { passive: false });
  slider.addEventListener("input", () => go(Number(slider.value)));
  strength.addEventListener("input", () => strengthen(0));
  for (const button of figure.querySelectorAll("[data-do]")) button.addEventListener("click", () => toggle(button.dataset.do));

  draw();
  return {
    series, mark,
    show: (key) => {
      if (!drawn) toggle("overlay");
      if (key in places) { go(places[key]); figure.scrollIntoView({ block: "nearest", behavior: "smooth" }); }
      return key in places;
    },
    keys: {
      ArrowDown: () => go(index + 1), ArrowRight: () => go(index + 1), PageDown: () => go(index + 10), End: () => go(count - 1),
      ArrowUp: () => go(index - 1), ArrowLeft: () => go(index - 1), PageUp: () => go(index - 10), Home: () => go(0),
      n: () => toFinding(1), p: () => toFinding(-1),
      o: () => toggle("overlay"), f: () => toggle("fill"), r: () => toggle("reset"),
      "[": () => strengthen(-10), "]": () => strengthen(10),
    },
  };
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.text()) || `The server answered ${answer.status}.`);
  return createImageBitmap(await answer.blob());
}

function paint(canvas, image) {
  [canvas.width, canvas.height] = [image.width, image.height]; // this clears it, too
  canvas.getContext("2d").drawImage(image, 0, 0);
}

const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
