const { tokens, layers, heads, virtual } = DATA;
const scores = { off: numbers(DATA.off), on: numbers(DATA.on) };
const T = tokens.length, LEFT = 78, TOP = 70, WIDE = 26, TALL = 25;
const names = [...Array.from({ length: virtual }, (_, i) => `v${i + 1}`), ...tokens];

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
const ofAll = Array.from({ length: layers }, (_, l) => Array.from({ length: heads }, (_, h) => ofHead(l, h)));
const percent = (x, digits = 1) => `${show(100 * x, digits)}\u00a0%`;

const words = (svg, x, y, text, anchor = "middle", style = "") =>
  draw(svg, "text", { x, y, "text-anchor": anchor, style }, text);
function cell(svg, x, y, wide, tall, weight) {
  draw(svg, "rect", { x, y, width: wide - 1, height: tall - 1, fill: "#d95f02", "fill-opacity": weight });
  words(svg, x + wide / 2, y + tall / 2 + 4, show(100 * weight), "middle", "font-size: 12px");
}
const frame = (svg, x, y, wide, tall) =>
  draw(svg, "rect", { x, y, width: wide, height: tall, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });

function grid(layer, head, token, isOn, isMasked) {
  const svg = byId("grid"), front = isOn ? 0 : virtual; // columns that are empty
  svg.replaceChildren();
  names.forEach((name, j) => {
    if (j >= front)
      draw(svg, "text", {
        transform: `translate(${LEFT + WIDE * (j + 0.5) + 4} ${TOP - 6}) rotate(-60)`,
      }, name);
  });
  tokens.forEach((name, i) => {
    words(svg, LEFT - 6, TOP + TALL * (i + 0.5) + 4, name, "end");
    weights(layer, head, i, isOn, isMasked).forEach((weight, k) => {
      const j = front + k, x = LEFT + WIDE * j, y = TOP + TALL * i;
      if (isMasked && j - virtual > i) draw(svg, "path", { d: `M${x + 9} ${y + TALL / 2}h8`, class: "axis" });
      else cell(svg, x, y, WIDE, TALL, weight);
    });
  });
  draw(svg, "path", { d: `M${LEFT + WIDE * virtual - 0.5} ${TOP - 4}v${TALL * T + 8}`, class: "axis" });
  frame(svg, LEFT - 1 + WIDE * front, TOP + TALL * token - 1, WIDE * (names.length - front) + 1, TALL + 1);
}

function table(layer, head, token, isMasked) {
  const off = weights(layer, head, token, false, isMasked), on = weights(layer, head, token, true, isMasked);
  const text = sum(on.slice(virtual));
  byId("weights").replaceChildren();
  names.forEach((name, j) => {
    const isText = j >= virtual, isSeen = !isMasked || j - virtual <= token;
    const row = byId("weights").insertRow();
    const columns = isSeen
      ? [isText ? percent(off[j - virtual]) : "–", percent(on[j]), isText ? percent(on[j] / text) : "–"]
      : ["not seen", "not seen", "not seen"];
    [name, ...columns].forEach((words) => (row.insertCell().textContent = words));
  });
}

function shares(layer, head) {
  const svg = byId("shares");
  svg.replaceChildren();
  ofAll.forEach((row, l) => {
    words(svg, 70, 49 + 29 * l, `layer ${l + 1}`, "end");
    row.forEach((one, h) => {
      if (!l) words(svg, 102 + 52 * h, 20, `head ${h + 1}`);
      cell(svg, 76 + 52 * h, 30 + 29 * l, 52, 29, one);
    });
  });
  frame(svg, 75 + 52 * head, 29 + 29 * layer, 53, 30);
}

let isOpen = false; // the prefix waits for the guess
function update() {
  const [layer, head] = ["layer", "head"].map((id) => Number(byId(id).value) - 1);
  const token = byId("token").selectedIndex;
  const isOn = isOpen && byId("prefix").checked, isMasked = byId("mask").checked;
  grid(layer, head, token, isOn, isMasked);
  table(layer, head, token, isMasked);
  shares(layer, head);
  const own = weights(layer, head, token, isOn, isMasked);
  const most = own.indexOf(Math.max(...own));
  const to = names[most + (isOn ? 0 : virtual)];
  byId("said").textContent =
    `Layer ${layer + 1}, head ${head + 1}, prefix ${isOn ? "on" : "off"}: “${tokens[token]}” looks most at “${to}”, with ` +
    `${percent(own[most])} of its attention` +
    (isOn ? `; the prefix has ${percent(sum(own.slice(0, virtual)))}.` : ".");
}

tokens.forEach((token, i) => byId("token").add(new Option(`${i + 1} ${token}`)));
byId("token").selectedIndex = 4;
for (const id of ["layer", "head", "token", "prefix", "mask"]) byId(id).addEventListener("input", update);
guess((percents) => {
  const flat = ofAll.flat();
  const alike = mean(tokens.map((_, token) => virtual / (virtual + token + 1)));
  const place = (value) => {
    const at = flat.indexOf(value);
    return `layer ${Math.floor(at / heads) + 1}, head ${(at % heads) + 1}`;
  };
  const [least, most] = [Math.min(...flat), Math.max(...flat)];
  byId("verdict").textContent =
    `${percent(mean(flat))} go to the prefix. You said ${show(percents)} %. Were all positions alike that a token sees, it ` +
    `would be ${percent(alike)}. The heads differ: from ${percent(least)} (${place(least)}) to ${percent(most)} ` +
    `(${place(most)}).`;
  isOpen = true;
  update();
  byId("prefix").focus();
});
update();
