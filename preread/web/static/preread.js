// Keys of all pages, and the viewer of a study. Pages are made by the server; without this file they still read.
"use strict";

// ---- rows by keyboard: j, k, Enter, / and ? -------------------------------------------------------------------
let chosenRow = null; // id of the row, so that it stays chosen when the list is replaced

function rows() {
  return [...document.querySelectorAll("[data-row]")];
}

function choose(row, scroll) {
  rows().forEach((other) => other.classList.toggle("chosen", other === row));
  chosenRow = row ? row.id : null;
  if (row && scroll) row.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.id === chosenRow);
  const next = now < 0 ? (by > 0 ? 0 : all.length - 1) : now + by;
  choose(all[Math.max(0, Math.min(all.length - 1, next))], true);
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
  const typing = event.target.matches("input:not([type=range]), textarea, select");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  // Enter on a link or a button is theirs.
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const action = (viewer && viewer.keys[event.key]) || pageKeys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open).showModal();
  const row = event.target.closest("[data-row]");
  if (row && !event.target.closest("a") && !String(getSelection())) row.querySelector("a").click();
  const lesion = event.target.closest("[data-lesion]");
  if (lesion && viewer && lesion.dataset.series === viewer.series && viewer.show(lesion.dataset.key)) event.preventDefault();
});

// ---- living parts: nothing is asked for while nobody looks, and the chosen row stays -------------------------
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.pathInfo.requestPath.startsWith("/live/")) event.preventDefault();
});

document.addEventListener("htmx:afterSwap", () => {
  if (chosenRow) choose(document.getElementById(chosenRow), false);
  if (viewer) viewer.mark();
});

document.addEventListener("htmx:load", (event) => {
  const figure = event.detail.elt.closest("#viewer") || event.detail.elt.querySelector("#viewer");
  if (figure) viewer = makeViewer(figure);
});

// ---- the viewer of one series --------------------------------------------------------------------------------
const AHEAD = 6; // slices fetched before they are asked for, in the direction of scrolling
const KEPT_MAX = 600;
let viewer = null;

function makeViewer(figure) {
  const { base, overlay, series } = figure.dataset;
  const count = Number(figure.dataset.count);
  const first = { center: Number(figure.dataset.center), width: Number(figure.dataset.width) };
  const marks = JSON.parse(figure.dataset.marks);
  const places = JSON.parse(figure.dataset.keys);
  const find = (selector) => figure.querySelector(selector);
  const canvas = find("canvas.slice"), layer = find("canvas.overlay"), slider = find(".scroll"), trouble = find(".trouble");
  const pictures = new Map(); // address -> promise of a picture, for as long as the page is open
  let index = Number(figure.dataset.start), shownIndex = -1, direction = 1;
  let drawn = true, filled = false, view = { ...first };

  const sliceAt = (i) => `${base}/${i}.png` + (view.center === first.center && view.width === first.width
    ? "" : `?center=${view.center.toFixed(3)}&width=${view.width.toFixed(3)}`);
  const overlayAt = (i) => `${overlay}/${i}.png${filled ? "?fill=1" : ""}`;

  function picture(address) {
    if (!pictures.has(address)) {
      if (pictures.size >= KEPT_MAX) pictures.delete(pictures.keys().next().value);
      pictures.set(address, fetch(address).then(async (answer) => {
        if (!answer.ok) throw new Error((await answer.text()) || `The server answered ${answer.status}.`);
        return createImageBitmap(await answer.blob());
      }));
      pictures.get(address).catch(() => pictures.delete(address));
    }
    return pictures.get(address);
  }

  function paint(target, image) {
    if (target.width !== image.width || target.height !== image.height) [target.width, target.height] = [image.width, image.height];
    const pen = target.getContext("2d");
    pen.clearRect(0, 0, target.width, target.height);
    pen.drawImage(image, 0, 0);
  }

  async function draw() {
    const wanted = index, address = sliceAt(wanted);
    slider.value = wanted;
    find("[data-place]").textContent = count > 1 ? `${wanted + 1} / ${count}` : "";
    find("[data-window]").textContent = `C ${short(view.center)}  W ${short(view.width)}`;
    mark();
    try {
      const wants = drawn && marks.includes(wanted);
      const [slice, lesions] = await Promise.all([picture(address), wants ? picture(overlayAt(wanted)) : null]);
      if (wanted !== index || address !== sliceAt(index)) return; // scrolled on meanwhile
      paint(canvas, slice);
      const ratio = (slice.height * Number(figure.dataset.aspect)) / slice.width;
      find(".stage").style.setProperty("--ratio", String(1 / ratio));
      if (lesions) paint(layer, lesions);
      layer.hidden = !lesions;
      trouble.hidden = true;
      shownIndex = wanted;
      figure.dataset.shown = String(wanted);
      for (let i = 1; i <= AHEAD; i++) ahead(wanted + i * direction);
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
    }
  }

  function ahead(i) {
    if (i < 0 || i >= count) return;
    picture(sliceAt(i)).catch(() => {});
    if (drawn && marks.includes(i)) picture(overlayAt(i)).catch(() => {});
  }

  function go(to) {
    const next = Math.max(0, Math.min(count - 1, to));
    if (next === index) return;
    direction = next > index ? 1 : -1;
    index = next;
    draw();
  }

  function mark() {
    for (const lesion of document.querySelectorAll("[data-lesion]")) {
      const here = lesion.dataset.series === series && places[lesion.dataset.key] === index;
      lesion.classList.toggle("here", here);
    }
  }

  function toFinding(by) {
    const stops = [...new Set(Object.values(places))].sort((a, b) => a - b);
    const next = by > 0 ? stops.find((stop) => stop > index) : stops.filter((stop) => stop < index).pop();
    if (next !== undefined) go(next);
  }

  function toggle(name) {
    if (name === "overlay") drawn = !drawn;
    if (name === "fill") [filled, drawn] = [!filled, true];
    if (name === "reset") view = { ...first };
    find("[data-do=overlay]").setAttribute("aria-pressed", String(drawn));
    find("[data-do=fill]").setAttribute("aria-pressed", String(filled));
    draw();
  }

  function strengthen(by) {
    const input = find(".strength");
    if (by) input.value = Number(input.value) + by;
    layer.style.opacity = String(Number(input.value) / 100);
  }

  let held = null; // where a drag began: a mouse changes the window, a finger scrolls
  canvas.parentElement.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY, view: { ...view }, index, touch: event.pointerType === "touch" };
    event.currentTarget.setPointerCapture(event.pointerId);
    figure.focus({ preventScroll: true });
  });
  canvas.parentElement.addEventListener("pointermove", (event) => {
    if (!held) return;
    const x = event.clientX - held.x, y = event.clientY - held.y;
    if (held.touch) return go(held.index + Math.round(x / 12));
    if (Math.abs(x) + Math.abs(y) < 4) return;
    view = { center: held.view.center + (y * first.width) / 300, width: Math.max(first.width / 500, held.view.width * Math.exp(x / 200)) };
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.parentElement.addEventListener(end, () => { held = null; });
  let turned = 0; // trackpads send many small steps
  canvas.parentElement.addEventListener("wheel", (event) => {
    if (count === 1 || event.ctrlKey) return;
    event.preventDefault();
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    if (Math.abs(turned) >= 40) { go(index + Math.sign(turned)); turned = 0; }
  }, { passive: false });
  slider.addEventListener("input", () => go(Number(slider.value)));
  find(".strength").addEventListener("input", () => strengthen(0));
  for (const button of figure.querySelectorAll("[data-do]")) button.addEventListener("click", () => toggle(button.dataset.do));

  draw();
  return {
    series,
    mark,
    show: (key) => {
      if (!(key in places)) return false;
      if (!drawn) toggle("overlay");
      go(places[key]);
      figure.scrollIntoView({ block: "nearest", behavior: "smooth" });
      return true;
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

function short(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
