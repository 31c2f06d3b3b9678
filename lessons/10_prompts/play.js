const { layers, heads, virtual } = DATA;
const SIGNS = { ".": "full stop", ",": "comma" }; // which alone are hardly seen
const tokens = DATA.tokens.map((token) => SIGNS[token] ?? token);
const scores = { off: numbers(DATA.off), on: numbers(DATA.on) };
const T = tokens.length;
const names = [...Array.from({ length: virtual }, (_, i) => `v${i + 1}`), ...tokens];
const svg = byId("arrows");

// Attention of a token: softmax of its scores, over the prefix where it is on, and the text that the mask lets it see.
function weights(layer, head, token, isOn, isMasked = true) {
  const all = scores[isOn ? "on" : "off"], front = isOn ? virtual : 0;
  const row = Array.from({ length: front + T }, (_, j) =>
    isMasked && j - front > token ? -Infinity : all.at((layer * heads + head) * T + token, j));
  const most = Math.max(...row);
  const exps = row.map((score) => Math.exp(score - most));
  const total = exps.reduce((a, x) => a + x, 0);
  return exps.map((x) => x / total);
}

const sum = (list) => list.reduce((a, x) => a + x, 0);
const mean = (list) => sum(list) / list.length;
const share = (layer, head, token) => sum(weights(layer, head, token, true).slice(0, virtual));
const ofHead = (layer, head) => mean(tokens.map((_, token) => share(layer, head, token)));
let ofAll; // ofHead of all layers and heads, once the reader has guessed
const percent = (x, digits = 1) => `${show(100 * x, digits)}\u00a0%`;

const words = (parent, x, y, text, anchor = "middle", style = "") =>
  draw(parent, "text", { x, y, "text-anchor": anchor, style }, text);

const short = (name) => (name.length > 9 ? `${name.slice(0, 7)}…` : name);
const guess = byId("guess").elements.guess, left = 2; // where the picture's words begin

// The question: of all attention, the part that goes to the prefix; "?" until the reader has guessed. The guess is marked.
// part: how far the prefix is on; there is no number while it moves. It was measured with the mask, and is pale without.
function question(part, isMasked) {
  const wide = 396, mine = Math.max(0, Math.min(100, Number(guess.value))) / 100, at = left + wide * mine;
  const top = draw(svg, "g", { opacity: isMasked ? 1 : 0.35 });
  words(top, left, 20, isMasked ? "of all attention, to the prefix:" : "with the mask, to the prefix:", "start");
  words(top, 398, 22, !isOpen ? "? %" : part === 1 ? percent(mean(ofAll.flat())) : part ? "" : "off", "end").classList.add("big");
  if (isOpen) draw(top, "rect", { x: left, y: 28, width: wide * part * mean(ofAll.flat()), height: 20, fill: "var(--prefix)" });
  draw(top, "rect", { x: left, y: 28, width: wide, height: 20, fill: "none", stroke: "var(--prefix)", "stroke-width": 1.5, "stroke-dasharray": isOpen ? "none" : "6 4" });
  if (guess.value === "") return;
  draw(top, "path", { d: `M${at} 25V51`, stroke: "var(--ink)", "stroke-width": 2 });
  words(top, Math.max(left + 36, Math.min(left + wide - 36, at)), 62, "your guess", "middle", "font-size: 12px");
}

// On the left who looks, on the right what is looked at, and arrows from one to the other.
function arrows(layer, head, token, part, isMasked) {
  svg.replaceChildren();
  question(part, isMasked);
  const first = 67, tall = (328 - first) / names.length, row = (j) => tall * (j + 0.5) + first;
  const blended = (i) => {
    const off = weights(layer, head, i, false, isMasked), on = weights(layer, head, i, true, isMasked);
    return on.map((weight, j) => part * weight + (1 - part) * (j < virtual ? 0 : off[j - virtual]));
  };
  const color = (j) => (j < virtual ? "var(--prefix)" : "var(--ink)");
  const arrow = (i, j, weight, opacity) => {
    if (weight < 0.004) return;
    const d = `M132 ${row(virtual + i)}C190 ${row(virtual + i)} 190 ${row(j)} 243 ${row(j)}`;
    draw(svg, "path", { d, fill: "none", stroke: color(j), "stroke-width": 0.5 + 15 * weight, "stroke-opacity": opacity });
  };
  tokens.forEach((_, i) => i !== token && blended(i).forEach((weight, j) => arrow(i, j, weight, 0.12)));
  const own = blended(token);
  own.forEach((weight, j) => arrow(token, j, weight, 0.85));
  draw(svg, "path", { d: `M236 ${first + tall * virtual}H398`, class: "axis", "stroke-dasharray": "3 3" });
  if (part < 1) words(svg, 200, row(0) + 5, "prefix →", "end"); // left of where the arrows rise to it
  else
    ["this head, this token:", `${percent(sum(own.slice(0, virtual)))} to the prefix →`, `(one of ${layers * heads} heads)`].forEach((text, i) =>
      words(svg, left, first + 14 + 17 * i, text, "start", i === 1 ? "font-weight: 600" : ""));
  tokens.forEach((name, i) => {
    words(svg, 124, row(virtual + i) + 5, short(name), "end", i === token ? "font-weight: 700" : "fill: var(--soft)");
  });
  names.forEach((name, j) => {
    const isSeen = !isMasked || j - virtual <= token;
    if (j < virtual) draw(svg, "rect", { x: 314, y: row(j) - 6, width: 30, height: 12, fill: "none", stroke: color(j) });
    words(svg, 248, row(j) + 5, short(name), "start", isSeen ? "" : "fill: var(--soft); opacity: .5");
    if (j < virtual && !part) words(svg, 398, row(j) + 5, "off", "end", "fill: var(--soft)");
    if (!isSeen || (j < virtual && !part)) return;
    draw(svg, "rect", { x: 314, y: row(j) - 6, width: Math.max(0.5, 30 * own[j]), height: 12, fill: color(j) });
    if (part === 0 || part === 1) words(svg, 398, row(j) + 5, `${show(100 * own[j], j < virtual && own[j] < 0.9995 ? 1 : 0)} %`, "end");
  });
  tokens.forEach((_, i) => { // a click on a word, where it looks or is looked at, chooses it
    for (const [x, width] of [[0, 130], [244, 154]]) {
      const over = draw(svg, "rect", { x, y: row(virtual + i) - tall / 2, width, height: tall, fill: "transparent", style: "cursor: pointer" });
      over.addEventListener("click", () => {
        byId("token").selectedIndex = i;
        redraw();
      });
    }
  });
}

function table(layer, head, token, isMasked) {
  const off = weights(layer, head, token, false, isMasked), on = weights(layer, head, token, true, isMasked);
  const text = sum(on.slice(virtual));
  byId("weights").replaceChildren();
  names.forEach((name, j) => {
    const isText = j >= virtual, isSeen = !isMasked || j - virtual <= token;
    const row = byId("weights").insertRow();
    const columns = isSeen
      ? [isText ? percent(off[j - virtual]) : "–", percent(on[j]), isText && text ? percent(on[j] / text) : "–"]
      : ["not seen", "not seen", "not seen"];
    [name, ...columns].forEach((words) => (row.insertCell().textContent = words));
  });
}

function shares(layer, head) {
  const picture = byId("shares");
  picture.replaceChildren();
  const wide = 312 / heads, tall = 174 / layers;
  words(picture, 70, 20, "head", "end");
  ofAll.forEach((row, l) => {
    words(picture, 70, 35 + tall * (l + 0.5), `layer ${l + 1}`, "end");
    row.forEach((one, h) => {
      const box = { x: 76 + wide * h, y: 30 + tall * l, width: wide - 1, height: tall - 1 };
      if (!l) words(picture, box.x + wide / 2, 20, h + 1);
      draw(picture, "rect", { ...box, fill: "var(--prefix)", "fill-opacity": one });
      words(picture, box.x + wide / 2, box.y + tall / 2 + 5, show(100 * one), "middle", one > 0.5 ? "fill: #000" : "");
      const isChosen = l === layer && h === head;
      const cell = draw(picture, "rect", { ...box, fill: "transparent", stroke: isChosen ? "var(--ink)" : "none", "stroke-width": 2, style: "cursor: pointer" });
      cell.addEventListener("click", () => {
        [byId("layer").value, byId("head").value] = [l + 1, h + 1];
        redraw();
      });
    });
  });
}

let isOpen = false; // the prefix waits for the guess
let part = 0; // how far the prefix is on, between 0 and 1 only while it moves
function update() {
  const [layer, head] = ["layer", "head"].map((id) => Number(byId(id).value) - 1);
  const token = byId("token").selectedIndex, isMasked = byId("mask").checked, isOn = isOpen && byId("prefix").checked;
  arrows(layer, head, token, part, isMasked);
  if (isOpen) {
    table(layer, head, token, isMasked);
    shares(layer, head);
  }
  byId("shares").style.opacity = isMasked ? 1 : 0.35;
  const own = weights(layer, head, token, isOn, isMasked), front = isOn ? virtual : 0;
  const most = own.indexOf(Math.max(...own)) + virtual - front;
  const name = (j) => (j < virtual ? names[j] : tokens[j - virtual] === DATA.tokens[j - virtual] ? `“${names[j]}”` : `the ${names[j]}`);
  byId("layer-says").textContent = `${layer + 1} of ${layers}`;
  byId("head-says").textContent = `${head + 1} of ${heads}`;
  byId("said").textContent =
    `Layer ${layer + 1}, head ${head + 1}, prefix ${isOn ? "on" : "off"}: ${name(virtual + token)} looks most at ` +
    `${name(most)}, with ${percent(Math.max(...own))} of its attention` +
    (isOn ? `; the whole prefix has ${percent(sum(own.slice(0, virtual)))}.` : ".") +
    (isMasked ? "" : " Pale: with the mask.");
}
function turn() {
  const start = part, end = Number(byId("prefix").checked);
  move((done) => {
    part = done < 1 ? start + (end - start) * done : end;
    redraw();
  }, 1200);
}

guess.addEventListener("input", update);
tokens.forEach((token, i) => byId("token").add(new Option(`${i + 1} ${token}`, i + 1)));
byId("token").value = byId("token").dataset.first;
const redraw = begin({ layer: "layer", head: "head", token: "token", prefix: "prefix", mask: "mask" }, update, (percents) => {
  ofAll = Array.from({ length: layers }, (_, l) => Array.from({ length: heads }, (_, h) => ofHead(l, h)));
  const flat = ofAll.flat();
  const alike = mean(tokens.map((_, token) => virtual / (virtual + token + 1)));
  const [least, most, all] = [Math.min(...flat), Math.max(...flat), mean(flat)], at = flat.indexOf(most);
  const truth = Object.assign(document.createElement("b"), { textContent: `${percent(all)} of all attention go to the prefix.` });
  const jump = Object.assign(document.createElement("a"), { target: "_self", textContent: "show such a head",
    href: `#layer=${Math.floor(at / heads) + 1}&head=${(at % heads) + 1}&prefix=1&mask=1` });
  byId("verdict").replaceChildren(truth, `${percents === null ? "" : ` You said ${show(percents)} %.`} The heads differ, ` +
    `from ${show(100 * least, 1)} to ${percent(most)}`, ...(flat.filter((one) => one > 0.9).length > 1 ? [": some look at almost nothing else (", jump, ")."] : ["."]),
    ` If each token shared its attention out evenly, it would be ${percent(alike)}.`);
  isOpen = true;
  if (percents === null) part = Number(byId("prefix").checked);
  else {
    byId("prefix").focus({ preventScroll: true });
    turn();
  }
});
byId("prefix").addEventListener("input", turn);
