const best = DATA.prompts.find((one) => one.examples === DATA.best);
const examples = (n) => (n ? `${show(n)} example${n === 1 ? "" : "s"}` : "no examples");
const chosen = () => DATA.trained[byId("size").selectedIndex];
const LEFT = 62, RIGHT = 386, TOP = 34, BOTTOM = 256; // the plot of accuracy
const words = (svg, x, y, text, anchor = "middle", look = {}) => draw(svg, "text", { x, y, "text-anchor": anchor, ...look }, text);

// Both ways stand over the number of their labelled examples, of which a prompt may have none: log(1 + n).
const sizes = [...new Set([...DATA.trained, ...DATA.prompts].map((one) => one.examples))].sort((a, b) => a - b);
const range = Math.log1p(sizes.at(-1)) - Math.log1p(sizes[0]) || 1; // one size alone stands at the left
const place = (n) => LEFT + 12 + ((RIGHT - LEFT - 34) * (Math.log1p(n) - Math.log1p(sizes[0]))) / range;
const lowest = 10 * Math.floor(Math.min(...[...DATA.prompts, ...DATA.trained].map((one) => one.low)) / 10);
const level = (percent) => BOTTOM - ((BOTTOM - TOP) * (percent - lowest)) / Math.max(10, 100 - lowest);

// Where both ways have a point, training stands a little to the right of its number and the prompt to the left.
const has = (points, n) => points.some((one) => one.examples === n);
const aside = (n) => (has(DATA.trained, n) && has(DATA.prompts, n) ? 4 : 0);
const trainedAt = (n) => place(n) + aside(n), promptedAt = (n) => place(n) - aside(n);
function curve(parent, points, color, place) {
  const at = points.map((one) => `${place(one.examples)} ${level(one.accuracy)}`);
  draw(parent, "path", { d: `M${at.join("L")}`, fill: "none", stroke: color, "stroke-width": 2.5 });
  for (const { examples: n, accuracy, low, high } of points) {
    if (low < high) draw(parent, "path", { d: `M${place(n)} ${level(low)}V${level(high)}`, stroke: color, "stroke-width": 1.5 });
    draw(parent, "circle", { cx: place(n), cy: level(accuracy), r: 5.5, fill: color });
  }
}
function numbersOf(parent, points) {
  if (points.length > 5) return;
  points.forEach((one) => {
    const x = trainedAt(one.examples), y = level(one.accuracy), look = { class: "over", style: "fill: var(--lora); font-weight: 600" };
    if (one === DATA.trained[0]) words(parent, x > RIGHT - 50 ? x - 9 : x + 9, Math.min(BOTTOM - 4, y + 18), `${show(one.accuracy, 1)} %`,
      x > RIGHT - 50 ? "end" : "start", look);
    else words(parent, x, Math.max(TOP - 6, Math.min(level(one.high) - 8, y - 13)), `${show(one.accuracy, 1)} %`, "middle", look);
  });
}

let hook, answer; // what training on the fewest examples reaches, until the reader has guessed the rest; and the rest

// The guess: where training would begin to be more right than the best prompt.
function mark(guess) {
  byId("mine").replaceChildren();
  if (guess === "") return;
  const x = guess > 0 ? trainedAt(Number(guess)) : RIGHT + 5, text = `your guess${guess > 0 ? "" : ": never"}`;
  if (guess > 0) draw(byId("mine"), "path", { d: `M${x} ${Math.max(level(best.accuracy) + 30, BOTTOM - 80)}V${BOTTOM}`,
    stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "3 3" });
  words(byId("mine"), x > RIGHT - 80 ? x - 5 : x + 5, BOTTOM - 22, text, x > RIGHT - 80 ? "end" : "start", { class: "over" });
}
function accuracies() {
  const picture = byId("accuracy"), bold = "font-weight: 600";
  for (let percent = lowest; percent <= 100; percent += lowest < 50 ? 20 : 10) {
    draw(picture, "path", { d: `M${LEFT} ${level(percent)}H${RIGHT}`, class: "axis", "stroke-opacity": 0.25 });
    words(picture, LEFT - 5, level(percent) + 4, `${percent} %`, "end");
  }
  const ticks = apart(sizes.map(place), 26, LEFT, RIGHT - 8);
  sizes.forEach((n, i) => words(picture, ticks[i], BOTTOM + 18, n));
  words(picture, (LEFT + RIGHT) / 2, BOTTOM + 38, "labelled examples");
  words(picture, 4, 16, `${DATA.texts} right`, "start");
  words(picture, 222, 16, "prompt", "end", { style: bold });
  words(picture, RIGHT + 10, 16, `trained by ${DATA.method}`, "end", { style: `fill: var(--lora); ${bold}` });
  draw(picture, "path", { d: `M${promptedAt(best.examples)} ${level(best.accuracy)}H${RIGHT}`, stroke: "var(--ink)", "stroke-width": 2, "stroke-dasharray": "8 5" });
  words(picture, RIGHT + 10, Math.min(BOTTOM - 4, level(best.accuracy) + 21), `best prompt ${show(best.accuracy, 1)} %`, "end", { class: "over", style: bold });
  answer = draw(picture, "g", { class: "after" });
  curve(answer, DATA.trained, "var(--lora)", trainedAt);
  numbersOf(answer, DATA.trained);
  draw(answer, "circle", { id: "chosen", r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
  draw(picture, "g", { id: "mine" });
  hook = draw(picture, "g");
  curve(hook, DATA.trained.slice(0, 1), "var(--lora)", trainedAt);
  numbersOf(hook, DATA.trained.slice(0, 1));
  DATA.trained.slice(1).forEach((one) => words(hook, trainedAt(one.examples), level(best.accuracy) + 3, "?", "middle",
    { class: "over big", style: "fill: var(--lora)" }));
  curve(picture, DATA.prompts, "var(--ink)", promptedAt);
}

const times = [[60, "s"], [60, "min"], [24, "hours"], [365, "days"], [Infinity, "years"]];
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
  byId("slide").max = Math.ceil(Math.max(5, ...DATA.trained.map((one) => Math.log10(one.cheaperFrom || 1)), Math.log10(queries)));
  byId("slide").value = Math.log10(queries);
  byId("slide").setAttribute("aria-valuetext", show(queries));
  byId("chosen").setAttribute("cx", trainedAt(one.examples));
  byId("chosen").setAttribute("cy", level(one.accuracy));
  const isMore = one.accuracy > best.accuracy, quality = !isMore ? "worse on average" : one.isAhead ? "better" : "not clearly better";
  byId("said").textContent =
    `${queries === 1 ? "One query takes" : `${show(queries)} queries take`} ${duration(a)} by prompt, and ${duration(b)} with ` +
    `training on ${show(one.examples)} first${wanted > most ? " (no more are counted here)" : ""}. ` +
    `${from ? `From about ${show(Number(from.toPrecision(2)))} queries on, training is cheaper` : "Training is never cheaper"}` +
    `${Boolean(from) === (quality === "better") ? " and" : ", but"} ${quality}.`;
  const picture = byId("cost"), wide = (seconds) => (232 * seconds) / Math.max(a, b);
  picture.replaceChildren();
  [["by prompt", 0, a, "var(--ink)"], ["trained", one.seconds, b, "var(--lora)"]].forEach(([name, training, seconds, fill], i) => {
    const y = 22 * i + 1;
    words(picture, 74, y + 14, name, "end");
    [["training", 0, training, 1], ["queries", training, seconds, i ? 0.5 : 1]].forEach(([part, from, to, opacity]) => {
      const width = wide(to - from);
      draw(picture, "rect", { x: 80 + wide(from), y, width, height: 18, fill, "fill-opacity": opacity });
      if (width > 60) words(picture, 80 + wide(from) + width / 2, y + 14, part, "middle",
        { style: `fill: var(--${opacity < 1 ? "ink" : "page"}); font-weight: 600` });
    });
    words(picture, 86 + wide(seconds), y + 14, duration(seconds), "start", { style: "font-weight: 600" });
  });
}

DATA.trained.forEach((one) => byId("size").add(new Option(examples(one.examples), one.examples)));
const highest = DATA.trained.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
byId("size").value = (DATA.trained.find((one) => one.isAhead) ?? highest).examples; // the answer, if there is one
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
