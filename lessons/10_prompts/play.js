const { layers, heads, virtual, sentences } = DATA;
const N = layers * heads, svg = byId("arrows"), guess = byId("guess").elements.guess;
const sum = (list) => list.reduce((a, x) => a + x, 0);
const ofPrefix = (weights) => sum(weights.slice(0, virtual));

// Of each sentence: what its last token looks at in each head, with the prefix (on) and without (off), and the heads in
// the order of what they give the prefix.
for (const one of sentences) {
  const [on, off] = [one.on, one.off].map(numbers).map(({ at, shape: [, wide] }) =>
    Array.from({ length: N }, (_, head) => Array.from({ length: wide }, (_, j) => at(head, j))));
  const order = on.map((_, head) => head).sort((a, b) => ofPrefix(on[a]) - ofPrefix(on[b]));
  Object.assign(one, { on, off, order });
}

// "12.3 %"; never 0 or 100 for what is only nearly so.
function percent(x, digits = 1) {
  const last = 10 ** -digits;
  if (100 * x > 100 - last / 2) return `>\u00a0${show(100 - last, digits)}\u00a0%`;
  if (100 * x < last / 2) return `<\u00a0${show(last, digits)}\u00a0%`;
  return `${show(100 * x, digits)}\u00a0%`;
}

// Per cent without decimals that sum to 100: the largest remainders are rounded up.
function wholes(shares) {
  const out = shares.map((x) => Math.floor(100 * x + 1e-9)), left = shares.map((x, i) => 100 * x - out[i]);
  const order = [...shares.keys()].sort((a, b) => left[b] - left[a]);
  for (const i of order.slice(0, 100 - sum(out))) out[i]++;
  return out;
}
// As percent(), for a share that is rounded to `whole`.
const ofWhole = (whole, x) => (whole % 100 ? `${whole}\u00a0%` : percent(x, 0));

const words = (x, y, text, anchor = "middle", style = "") => draw(svg, "text", { x, y, "text-anchor": anchor, style }, text);
const short = (name, most = 11) => (name.length > most ? `${name.slice(0, Math.max(1, most - 1))}…` : name);
const chosen = () => sentences[Number(byId("sentence").value) - 1];

// What the last token looks at: with head 0, in the mean of all heads, else in the one with this place in the order.
function looks(one, rows) {
  const rank = Number(byId("head").value);
  return rank ? rows[one.order[rank - 1]] : rows[0].map((_, j) => sum(rows.map((row) => row[j])) / N);
}

// The sentence, in a row behind the prefix, and arcs from its last token to what it looks at.
// part: how far the prefix is on.
function arcs(one, part) {
  const off = looks(one, one.off), on = looks(one, one.on), names = [...on.keys()].map((j) => (j < virtual ? `v${j + 1}` : one.tokens[j - virtual]));
  const own = on.map((weight, j) => part * weight + (1 - part) * (j < virtual ? 0 : off[j - virtual]));
  const slot = 400 / names.length, x = (j) => slot * (j + 0.5), last = names.length - 1, ground = 96;
  const whole = wholes(own);
  own.forEach((weight, j) => {
    if (weight < 0.004) return;
    const from = x(last), loop = Math.max(0, Math.min(14, slot / 2 - 10)), high = ground - 28 - 86 * ((last - j) / last);
    const bend = j < last ? `${from} ${high} ${x(j)} ${high} ${x(j)}` : `${from} ${high} ${from + 1.6 * loop} ${high} ${from + loop}`;
    draw(svg, "path", { d: `M${from} ${ground}C${bend} ${ground}`, fill: "none", stroke: j < virtual ? "var(--prefix)" : "var(--ink)",
      "stroke-width": 0.5 + 18 * weight, "stroke-opacity": 0.8 });
  });
  words(0, 17, `“${one.tokens.at(-1)}” looks at:`, "start", "fill: var(--soft)");
  names.forEach((name, j) => {
    const isIn = j < virtual, wide = Math.min(36, slot - 4);
    if (isIn) draw(svg, "rect", { x: x(j) - wide / 2, y: ground + 4, width: wide, height: 22, rx: 4, fill: "var(--prefix)", "fill-opacity": 0.35 * part,
      stroke: "var(--prefix)", "stroke-dasharray": part ? "none" : "4 3" });
    const room = Math.floor(slot / (slot < 50 ? 13 : 6.3)); // in letters
    words(x(j), ground + 20, short(name, room), "middle", j === last ? "font-weight: 700" : isIn && !part ? "fill: var(--soft)" : "");
    if (part > 0 && part < 1) return;
    const share = isIn && !part ? "off" : slot < 40 ? show(whole[j]) : ofWhole(whole[j], own[j]);
    words(x(j), ground + 44, share, "middle", "fill: var(--soft)");
  });
}

// What the model expects next: of each word a bar without and a bar with the prefix, "?" until the reader has guessed.
function bars(one, part) {
  const left = 104, wide = 246, top = 166;
  draw(svg, "path", { d: `M0 ${top - 17}H400`, stroke: "var(--line)" });
  words(0, top + 3, "next:", "start", "fill: var(--soft)");
  for (const [x, text, fill] of [[left, "without", "var(--soft)"], [left + 100, "with the prefix", "var(--prefix)"]]) {
    draw(svg, "rect", { x, y: top - 7, width: 11, height: 11, fill });
    words(x + 16, top + 3, text, "start");
  }
  const others = (which) => 1 - sum(one.words.map((word) => Math.round(100 * word[which]) / 100)); // all sum to 100 %
  [...one.words, { word: "all others", off: others("off"), on: others("on") }].forEach(({ word, off, on }, i, { length }) => {
    const y = top + 12 + 41 * i + (i && 11), isAsked = !isOpen && i === 0, share = off + (on - off) * part;
    words(0, y + 21, short(word), "start", i === 0 ? "font-weight: 700" : i === length - 1 ? "fill: var(--soft)" : "");
    draw(svg, "rect", { x: left, y, width: Math.max(0.5, wide * off), height: 14, fill: "var(--soft)" });
    words(398, y + 12, percent(off, 0), "end", "fill: var(--soft)");
    if (part) draw(svg, "rect", { x: left, y: y + 16, width: Math.max(0.5, wide * share), height: 14, fill: "var(--prefix)" });
    if (part === 1) words(398, y + 28, percent(on, 0), "end", "font-weight: 700");
    if (isOpen && !part) words(398, y + 28, "off", "end", "fill: var(--soft)");
    if (isAsked) {
      draw(svg, "rect", { x: left, y: y + 16, width: wide, height: 14, fill: "none", stroke: "var(--prefix)", "stroke-width": 1.5, "stroke-dasharray": "6 4" });
      words(398, y + 29, "? %", "end", "font-weight: 700");
    }
    if (i || guess.value === "" || one !== sentences[0]) return;
    const at = left + (wide * Math.max(0, Math.min(100, Number(guess.value)))) / 100;
    draw(svg, "path", { d: `M${at} ${y + 14}V${y + 32}`, stroke: "var(--ink)", "stroke-width": 2.5, id: "mine" });
    words(at + (at > 250 ? -5 : 5), y + 42, "your guess", at > 250 ? "end" : "start", "font-size: 12px");
  });
}

const other = document.createElement("span"); // in the answer, which is about the first sentence
let isOpen = false; // the prefix waits for the guess
let part = 0; // how far the prefix is on, between 0 and 1 only while it moves
function update() {
  const one = chosen(), rank = Number(byId("head").value), isOn = isOpen && byId("prefix").checked, head = one.order[rank - 1];
  svg.replaceChildren();
  arcs(one, part);
  bars(one, part);
  const share = ofPrefix(looks(one, one.on)), next = one.words.map(({ word, off, on }) => `“${word}” ${percent(isOn ? on : off, 0)}`);
  const name = rank ? `layer ${Math.floor(head / heads) + 1}, head ${(head % heads) + 1}` : `mean of all ${N}`;
  other.textContent = one === sentences[0] ? "" : ` (That is after “${sentences[0].text}…”. The picture shows “${one.text}…”.)`;
  byId("head-says").textContent = name;
  byId("head").setAttribute("aria-valuetext", name);
  byId("said").textContent = `“${one.tokens.at(-1)}”, the last of ${one.tokens.length} tokens, gives ` +
    (isOn ? `${percent(share)} of its attention to the prefix and ${percent(1 - share)} to the words ` : "the words all of its attention ") +
    `(${rank ? name : `mean of ${N} heads`}). Next: ${next.join(", ")}.`;
}
function turn() {
  const start = part, end = Number(byId("prefix").checked);
  move((done) => {
    part = done < 1 ? start + (end - start) * done : end;
    update(); // and no redraw: a frame must not write over an address that was just followed
  }, 1500);
}

guess.addEventListener("input", update);
sentences.forEach(({ text }, i) => byId("sentence").add(new Option(`${text}…`, i + 1)));
begin({ sentence: "sentence", head: "head", prefix: "prefix" }, update, (percents) => {
  const [first] = sentences, [asked] = first.words, mean = sum(first.on.map(ofPrefix)) / N, most = first.on[first.order[N - 1]];
  const truth = Object.assign(document.createElement("b"), { textContent: `${percent(asked.on, 0)} for “${asked.word}”.` });
  const jump = Object.assign(document.createElement("a"), { target: "_self", textContent: "show it", href: `#sentence=1&head=${N}&prefix=1` });
  byId("verdict").replaceChildren(truth, percents === null ? "" : ` You said ${show(percents)} %.`, other, " No weight has changed; " +
    `there is only more to look at. “${first.tokens.at(-1)}” now gives ${percent(mean)} of its attention to v1 to v${virtual}, and the words give way. ` +
    `One head gives them ${percent(ofPrefix(most))} (`, jump, ").");
  isOpen = true;
  if (percents === null) part = Number(byId("prefix").checked);
  else {
    byId("prefix").focus({ preventScroll: true });
    turn();
  }
  return Math.round(100 * asked.on);
});
byId("prefix").addEventListener("input", turn);
