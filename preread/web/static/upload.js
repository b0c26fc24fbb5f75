// The page Upload: files, folders and zips, each sent by a request of its own; the server says what became of each.
"use strict";
const TOGETHER = 2; // requests at a time
const ROWS_SHOWN = 200;

document.addEventListener("DOMContentLoaded", () => {
  const drop = document.getElementById("drop");
  if (!drop) return;
  const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-Form-Token"];
  const find = (id) => document.getElementById(id);
  const waiting = [], counts = { stored: 0, skipped: 0, refused: 0 };
  let busy = 0, bytes = 0, doneBytes = 0, shown = 0, hiddenRows = 0;
  const underWay = new Map(); // file -> bytes sent so far

  function take(files) {
    for (const file of files) { waiting.push(file); bytes += file.size; }
    if (!waiting.length) return;
    find("sent").hidden = false;
    while (busy < TOGETHER && waiting.length) next();
    show();
  }

  function next() {
    const file = waiting.shift();
    if (!file) return;
    busy += 1;
    underWay.set(file, 0);
    send(file).catch((error) => told({ name: "", state: "refused", why: error.message }, file)).then(() => {
      underWay.delete(file);
      doneBytes += file.size;
      busy -= 1;
      next();
      show();
    });
  }

  function send(file) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      let read = 0;
      const lines = () => {
        if (request.status !== 200) return;
        const end = request.responseText.lastIndexOf("\n") + 1;
        for (const line of request.responseText.slice(read, end).split("\n")) if (line) told(JSON.parse(line), file);
        read = Math.max(read, end);
      };
      request.open("POST", "/upload");
      request.setRequestHeader("X-Form-Token", token);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.onprogress = (event) => { underWay.set(file, event.loaded); show(); };
      request.onprogress = lines;
      request.onload = () => { lines(); request.status === 200 ? resolve() : reject(new Error(request.responseText.trim() || `The server answered ${request.status}.`)); };
      request.onerror = () => reject(new Error("The connection to the server broke. Send it again."));
      request.send(file);
    });
  }

  function told(outcome, file) {
    counts[outcome.state] += 1;
    const path = file.webkitRelativePath || file.pathInDrop || file.name;
    if (shown < ROWS_SHOWN) addRow(outcome.name ? `${path} / ${outcome.name}` : path, outcome);
    else hiddenRows += 1;
    show();
  }

  function addRow(name, outcome) {
    const row = find("sent-row").content.cloneNode(true).firstElementChild;
    row.children[0].textContent = name;
    row.children[1].append(find(`sign-${outcome.state}`).content.cloneNode(true));
    row.children[2].textContent = outcome.why;
    // What needs a look stands above what is as it should be.
    outcome.state === "refused" ? find("sent-rows").prepend(row) : find("sent-rows").append(row);
    shown += 1;
  }

  function show() {
    const sent = [...underWay.values()].reduce((sum, part) => sum + part, doneBytes);
    const over = busy === 0 && waiting.length === 0;
    find("sent-bar").value = over ? 1 : bytes ? Math.min(0.99, sent / bytes) : 0;
    find("sent-title").textContent = over ? "Sent" : `Sending, ${waiting.length + busy} to go`;
    for (const [state, count] of Object.entries(counts)) document.querySelector(`[data-count=${state}]`).textContent = count;
    find("sent-more").hidden = !hiddenRows;
    find("sent-more").textContent = `and ${hiddenRows} more, counted above`;
    find("sent-next").hidden = !(over && counts.stored);
    find("sent").dataset.over = String(over);
  }

  async function inEntry(entry, path) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      file.pathInDrop = path + file.name;
      return [file];
    }
    const reader = entry.createReader(), found = [];
    for (;;) { // a reader gives at most 100 at a time
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return found;
      for (const one of some) found.push(...(await inEntry(one, `${path}${entry.name}/`)));
    }
  }

  for (const id of ["files", "folder"])
    find(id).addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
  for (const kind of ["dragenter", "dragover"])
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return take(event.dataTransfer.files);
    for (const entry of entries) take(await inEntry(entry, ""));
  });
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
});
