const best = DATA.prompts.find((one) => one.examples === DATA.best);
const examples = (n) => (n ? `${show(n)} example${n === 1 ? "" : "s"}` : "no examples");
const chosen = () => DATA.trained[byId("size").selectedIndex];
const LEFT = 62, RIGHT = 290, TOP = 22, BOTTOM = 160; // the plot of accuracy
const words = (svg, x, y, text, anchor = "middle", look = {}) => draw(svg, "text", { x, y, "text-anchor": anchor, ...look }, text);

const sizes = [...new Set([...DATA.trained, ...DATA.words].map((one) => one.examples))].sort((a, b) => a - b);
const range = Math.log(sizes.at(-1) / sizes[0]) || 1; // one size alone stands at the left
const place = (n) => LEFT + 34 + ((RIGHT - LEFT - 68) * Math.log(n / sizes[0])) / range;
const lowest = 10 * Math.floor(Math.min(...DATA.prompts.map((one) => one.accuracy),
  ...[...DATA.trained, ...DATA.words].map((one) => one.low)) / 10);
const level = (percent) => BOTTOM - ((BOTTOM - TOP) * (percent - lowest)) / Math.max(10, 100 - lowest);

function curve(parent, points, color, square) {
  const at = points.map((one) => `${place(one.examples)} ${level(one.accuracy)}`);
  draw(parent, "path", { d: `M${at.join("L")}`, fill: "none", stroke: color, "stroke-width": 2.5 });
  for (const one of points) {
    const x = place(one.examples), y = level(one.accuracy);
    draw(parent, "path", { d: `M${x} ${level(one.low)}V${level(one.high)}`, stroke: color, "stroke-width": 1.5 });
    if (square) draw(parent, "rect", { x: x - 4, y: y - 4, width: 8, height: 8, fill: color });
    else draw(parent, "circle", { cx: x, cy: y, r: 5, fill: color });
    if (!square && points.length < 6)
      words(parent, x, Math.max(12, Math.min(level(one.high) - 8, y - 13)), `${show(one.accuracy, 1)} %`, "middle", { class: "over" });
  }
}

let hook, answer; // what training on the fewest examples reaches, until the reader has guessed the rest; and the rest

// The guess: where training would begin to be more right than the best prompt.
function mark(guess) {
  byId("mine").replaceChildren();
  if (guess === "") return;
  const x = guess > 0 ? place(Number(guess)) : RIGHT, text = `your guess${guess > 0 ? "" : ": never"}`;
  draw(byId("mine"), "path", { d: `M${x} ${level(best.accuracy)}V${BOTTOM}`, stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "3 3" });
  words(byId("mine"), x > RIGHT - 40 ? x - 5 : x + 5, BOTTOM - 22, text, x > RIGHT - 40 ? "end" : "start", { class: "over", style: "font-size: 12px" });
}
function accuracies() {
  const picture = byId("accuracy");
  for (let percent = lowest; percent <= 100; percent += lowest < 50 ? 20 : 10) {
    draw(picture, "path", { d: `M${LEFT} ${level(percent)}H${RIGHT}`, class: "axis", "stroke-opacity": 0.25 });
    words(picture, LEFT - 5, level(percent) + 4, `${percent} %`, "end");
  }
  const ticks = apart(sizes.map(place), 28, LEFT, RIGHT);
  sizes.forEach((n, i) => words(picture, ticks[i], BOTTOM + 18, n));
  words(picture, RIGHT + 8, BOTTOM + 18, "to train on", "start");
  draw(picture, "text", { transform: `translate(12 ${(TOP + BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, `${DATA.texts} right`);
  const names = [...DATA.prompts.map((one) => ({ y: level(one.accuracy), text: examples(one.examples) }))];
  answer = draw(picture, "g", { class: "after" });
  curve(answer, DATA.words, "var(--scratch)", true);
  curve(answer, DATA.trained, "var(--lora)");
  draw(answer, "circle", { id: "chosen", r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
  words(picture, 50, 12, `trained by ${DATA.method}`, "start", { style: "fill: var(--lora); font-weight: 600" });
  if (DATA.words.length) words(answer, 176, 12, "counting words", "start", { style: "fill: var(--scratch); font-weight: 600" });
  const places = apart(names.map(({ y }) => y + 4), 15, 30, BOTTOM);
  DATA.prompts.forEach((prompt, i) => {
    const y = level(prompt.accuracy), isBest = prompt === best;
    draw(picture, "path", { d: `M${LEFT} ${y}H${RIGHT}`, class: "axis", "stroke-width": isBest ? 2.5 : 1, "stroke-opacity": isBest ? 1 : 0.5 });
    draw(picture, "path", { d: `M${RIGHT} ${y}L${RIGHT + 8} ${places[i] - 4}`, class: "axis", "stroke-width": 0.7 });
    words(picture, RIGHT + 11, places[i], names[i].text, "start", isBest ? { style: "font-weight: 600" } : {});
  });
  words(picture, RIGHT + 8, 12, "in the prompt:", "start");
  draw(picture, "g", { id: "mine" });
  hook = draw(picture, "g");
  curve(hook, DATA.trained.slice(0, 1), "var(--lora)");
  DATA.trained.slice(1).forEach((one) =>
    words(hook, place(one.examples), BOTTOM - 8, "?", "middle", { style: "fill: var(--lora); font-weight: 600" }));
}

const tick = (n) => (n < 1 ? String(Number(n.toPrecision(1))) : n < 1e4 ? show(n) : n.toLocaleString("en-US", { notation: "compact" }));
const times = [[60, "s"], [60, "min"], [24, "hours"], [365, "days"], [Infinity, "years"]];
const levels = [[0.01, "0.01 s"], [1, "1 s"], [60, "1 min"], [3600, "1 hour"], [86400, "1 day"], [31536000, "1 year"]];
function duration(seconds) { // 0.37 → "0.4 s", 1860 → "31 min"
  let [rest, i] = [seconds, 0];
  for (; rest >= (i ? 2 : 3) * times[i][0]; i++) rest /= times[i][0];
  return `${show(rest, rest < 9.95 ? 1 : 0)} ${times[i][1]}`;
}
const prompted = (queries) => (queries * best.ms) / 1000;
const trained = (one, queries) => one.seconds + (queries * DATA.ms) / 1000;

function update() {
  const most = Number(byId("queries").max), wanted = Number(byId("queries").value), one = chosen(), from = one.cheaperFrom;
  const queries = Math.min(most, Math.max(1, Math.round(wanted))), [a, b] = [prompted(queries), trained(one, queries)];
  const end = Math.ceil(Math.max(4, ...DATA.trained.map((one) => Math.log10(one.cheaperFrom || 1)), Math.log10(queries)));
  byId("slide").max = end;
  byId("slide").value = Math.log10(queries);
  byId("slide").setAttribute("aria-valuetext", show(queries));
  byId("chosen").setAttribute("cx", place(one.examples));
  byId("chosen").setAttribute("cy", level(one.accuracy));
  const isMore = one.accuracy > best.accuracy, isSure = !isMore || one.isAhead;
  byId("said").textContent =
    `Trained on ${show(one.examples)}, ${show(one.accuracy, 1)} % are right: ` +
    `${isSure ? "" : "not clearly "}${isMore ? "more" : "fewer"} than by prompt (${show(best.accuracy, 1)} %). ` +
    `${queries === 1 ? "One query takes" : `${show(queries)} queries take`} ${duration(b)}, by prompt ${duration(a)}` +
    `${wanted > most ? " (no more are counted here)" : ""}: training is ` +
    (from ? `cheaper from ${show(from)} queries on.` : "never cheaper.");
  const picture = byId("cost"), color = isMore && isSure ? "var(--lora)" : "var(--soft)";
  picture.replaceChildren();
  const ends = [1, 10 ** end].flatMap((n) => [prompted(n), trained(one, n)]);
  const [smallest, largest] = [Math.floor(Math.log10(Math.min(...ends))), Math.ceil(Math.log10(Math.max(...ends)))];
  const x = (n) => 64 + (302 * Math.log10(n)) / end;
  const y = (seconds) => 114 - (98 * (Math.log10(seconds) - smallest)) / Math.max(1, largest - smallest);
  if (from) draw(picture, "rect", { x: x(from), y: 12, width: 384 - x(from), height: 104, fill: color, "fill-opacity": 0.14 });
  for (const [seconds, name] of levels.filter(([seconds]) => seconds >= 10 ** smallest && seconds <= 10 ** largest)) {
    draw(picture, "path", { d: `M58 ${y(seconds)}H384`, class: "axis", "stroke-opacity": 0.25 });
    words(picture, 53, y(seconds) + 4, name, "end");
  }
  for (let power = 0; power <= end; power += Math.ceil(end / 5)) words(picture, x(10 ** power), 132, tick(10 ** power));
  const line = (cost) => "M" + Array.from({ length: 61 }, (_, i) => 10 ** ((end * i) / 60)).map((n) => `${x(n)} ${y(cost(n))}`).join("L");
  draw(picture, "path", { d: line(prompted), class: "axis", "stroke-width": 2, "stroke-dasharray": "8 4" });
  draw(picture, "path", { d: line((n) => trained(one, n)), fill: "none", stroke: "var(--lora)", "stroke-width": 2.5 });
  draw(picture, "path", { d: `M${x(queries)} 12V116`, class: "axis" });
  [["prompt", a, "var(--soft)"], ["trained", b, "var(--lora)"]].forEach(([name, seconds, fill], i) => { // bars, not in powers of ten
    const width = (240 * seconds) / Math.max(a, b), base = 15 * i - 40;
    words(picture, 60, base, name, "end");
    draw(picture, "rect", { x: 64, y: base - 10, width, height: 12, fill });
    words(picture, 69 + width, base, duration(seconds), "start", { style: "font-weight: 600" });
  });
  draw(picture, "circle", { cx: x(queries), cy: y(a), r: 4.5, fill: "var(--soft)" });
  draw(picture, "circle", { cx: x(queries), cy: y(b), r: 4.5, fill: "var(--lora)" });
  const start = y(trained(one, 1)) - (from && x(from) < 200 ? 27 : 8); // above the ring
  words(picture, 66, Math.max(28, start), `trained once on ${show(one.examples)}`, "start",
    { class: "over", style: "fill: var(--lora); font-weight: 600" });
  words(picture, x(10 ** (0.15 * end)) + 8, y(prompted(10 ** (0.15 * end))) + 14, "by prompt", "start", { class: "over" });
  const title = (y, text) => words(picture, 4, y, text, "start", { style: "font-weight: 600" });
  title(-58, `What ${queries === 1 ? "one query costs" : `${show(queries)} queries cost`} in time`);
  title(2, "What any number of queries costs in time");
  if (!from) return;
  const up = y(prompted(from)), halo = `stroke: color-mix(in srgb, ${color} 14%, var(--page))`;
  draw(picture, "circle", { cx: x(from), cy: up, r: 6, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
  const quality = isMore ? (isSure ? ["cheaper,", "and better"] : ["cheaper, not", "clearly better"]) : ["cheaper,", "but worse"];
  if (x(from) < 320) quality.forEach((text, i) =>
    words(picture, 381, 94 + 15 * i, text, "end", { class: "over", style: `${halo}; fill: ${color}; font-size: 12px` }));
  const side = x(from) < 340 ? 1 : -1;
  words(picture, x(from) + 8 * side, Math.min(76, up + 20), show(from), side > 0 ? "start" : "end", { class: "over", style: halo });
}

DATA.trained.forEach((one) => byId("size").add(new Option(examples(one.examples), one.examples)));
const highest = DATA.trained.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
byId("size").value = highest.examples;
accuracies();
const guess = byId("guess").elements.guess;
guess.addEventListener("input", () => mark(guess.value));

// What the record says of a guess.
function judged(guess) {
  const mine = DATA.trained.find((one) => one.examples === guess), first = DATA.trained.find((one) => one.isAhead);
  if (mine === first) return ` You said ${guess ? show(guess) : "never"}: right.`;
  if (!mine) return " You said never.";
  const more = `${show(mine.accuracy, 1)} % are`;
  return ` You said ${show(guess)}: ` + (mine.isAhead ? "clearly more there, too, but so it is earlier."
    : mine.accuracy > best.accuracy ? `on average yes (${more} right), but that could be chance.` : `not more yet (${more} right).`);
}

const redraw = begin({ queries: "queries", n: "size" }, update, (guessed) => {
  hook.remove();
  const close = DATA.trained.filter((one) => one.examples !== guessed && !one.isAhead && one.accuracy > best.accuracy).map((one) =>
    ` On ${examples(one.examples)}, ${show(one.accuracy, 1)} % is more too, but that could be chance.`);
  const said = guessed === null ? "" : judged(guessed);
  const truth = Object.assign(document.createElement("b"), { textContent: DATA.answer });
  byId("verdict").replaceChildren(truth, `${said} Trained on ${examples(highest.examples)}, ${show(highest.accuracy, 1)} % are right; ` +
    `by the best prompt, with ${examples(best.examples)} in it, ${show(best.accuracy, 1)} %.${close.join("")}`);
  if (guessed === null) return mark("");
  byId("slide").focus({ preventScroll: true });
  move((part) => (answer.style.clipPath = part < 1 ? `inset(0 ${100 - 100 * part}% 0 0)` : ""), 1500); // from left to right
});
byId("slide").addEventListener("input", () => {
  byId("queries").value = Math.round(10 ** byId("slide").value);
  redraw();
});
