const best = DATA.prompts.find((one) => one.examples === DATA.best);
const examples = (n) => (n ? `${n} example${n === 1 ? "" : "s"}` : "no examples");

function accuracies() {
  const picture = byId("accuracy");
  const [fewest, most] = [DATA.trained[0].examples, DATA.trained.at(-1).examples];
  const bottom = 10 * Math.floor(Math.min(...DATA.prompts.map((one) => one.accuracy), ...DATA.trained.map((one) => one.low)) / 10);
  const x = (n) => 80 + (190 * Math.log(n / fewest)) / Math.log(most / fewest);
  const y = (percent) => 235 - (205 * (percent - bottom)) / (100 - bottom);
  for (let percent = bottom; percent <= 100; percent += 10) {
    draw(picture, "path", { d: `M48 ${y(percent)}H296`, class: "axis", "stroke-opacity": 0.25 });
    draw(picture, "text", { x: 43, y: y(percent) + 4, "text-anchor": "end" }, `${percent} %`);
  }
  for (const one of DATA.trained) draw(picture, "text", { x: x(one.examples), y: 260, "text-anchor": "middle" }, one.examples);
  draw(picture, "text", { x: 302, y: 260 }, "to train on");
  const dashes = ["", "8 4", "3 3", "10 3 2 3"];
  let last = Infinity;
  for (const prompt of [...DATA.prompts].sort((a, b) => a.accuracy - b.accuracy)) {
    const dash = dashes[DATA.prompts.indexOf(prompt) % dashes.length];
    draw(picture, "path", { d: `M48 ${y(prompt.accuracy)}H296`, class: "axis", "stroke-width": 2, "stroke-dasharray": dash });
    last = Math.min(last - 15, y(prompt.accuracy) + 4);
    draw(picture, "text", { x: 302, y: last }, examples(prompt.examples));
  }
  draw(picture, "text", { x: 302, y: last - 17 }, "in the prompt:");
  const answer = draw(picture, "g", { class: "after" });
  const points = DATA.trained.map((one) => `${x(one.examples)} ${y(one.accuracy)}`).join("L");
  draw(answer, "path", { d: `M${points}`, fill: "none", stroke: "#d95f02", "stroke-width": 3 });
  for (const one of DATA.trained) {
    draw(answer, "path", { d: `M${x(one.examples)} ${y(one.low)}V${y(one.high)}`, stroke: "#d95f02", "stroke-width": 2 });
    draw(answer, "circle", { cx: x(one.examples), cy: y(one.accuracy), r: 5, fill: "#d95f02" });
    const up = y(one.high) - 8;
    draw(answer, "text", { x: x(one.examples), y: up, "text-anchor": "middle", class: "over" }, `${show(one.accuracy, 1)} %`);
  }
}

const tick = (n) => (n < 1 ? n : n < 1e5 ? show(n) : n.toLocaleString("en-US", { notation: "compact" }));
const prompted = (queries) => (queries * best.ms) / 1000;
const trained = (one, queries) => one.seconds + (queries * DATA.ms) / 1000;

function costs() {
  const queries = Math.round(10 ** Number(byId("queries").value));
  const one = DATA.trained[byId("size").selectedIndex];
  const [a, b] = [prompted(queries), trained(one, queries)];
  byId("said").textContent =
    `${show(queries)} queries: ${show(a)} s with ${examples(best.examples)} in the prompt, ${show(b)} s trained on ` +
    `${one.examples}. Training ${one.paysFrom ? `pays from ${show(one.paysFrom)} queries on` : "never pays: a query by prompt is no slower"}.`;
  const picture = byId("cost");
  picture.replaceChildren();
  const end = Number(byId("queries").max);
  const largest = 10 ** Math.ceil(Math.log10(Math.max(prompted(10 ** end), trained(one, 10 ** end))));
  const smallest = 10 ** Math.floor(Math.log10(prompted(1)));
  const x = (n) => 66 + (304 * Math.log10(n)) / end;
  const y = (seconds) => 205 - (190 * Math.log10(seconds / smallest)) / Math.log10(largest / smallest);
  for (let seconds = smallest; seconds <= largest; seconds *= 10) {
    draw(picture, "path", { d: `M66 ${y(seconds)}H380`, class: "axis", "stroke-opacity": 0.25 });
    draw(picture, "text", { x: 61, y: y(seconds) + 4, "text-anchor": "end" }, `${tick(seconds)} s`);
  }
  for (let n = 1; n <= 10 ** end; n *= 10) draw(picture, "text", { x: x(n), y: 228, "text-anchor": "middle" }, tick(n));
  const line = (cost) => "M" + Array.from({ length: 81 }, (_, i) => 10 ** ((end * i) / 80)).map((n) => `${x(n)} ${y(cost(n))}`).join("L");
  draw(picture, "path", { d: line(prompted), class: "axis", "stroke-width": 2.5, "stroke-dasharray": "8 4" });
  draw(picture, "path", { d: line((n) => trained(one, n)), fill: "none", stroke: "#d95f02", "stroke-width": 3 });
  draw(picture, "text", { x: x(1) + 8, y: y(trained(one, 1)) - 8 }, "trained");
  draw(picture, "text", { x: x(12), y: y(prompted(12)) + 20 }, "prompted");
  draw(picture, "path", { d: `M${x(queries)} 10V208`, class: "axis" });
  if (one.paysFrom) draw(picture, "circle", { cx: x(one.paysFrom), cy: y(prompted(one.paysFrom)), r: 5, fill: "var(--ink)" });
}

DATA.trained.forEach((one) => byId("size").add(new Option(`${one.examples} examples`)));
const highest = Math.max(...DATA.trained.map((one) => one.accuracy));
byId("size").selectedIndex = DATA.trained.findIndex((one) => one.accuracy === highest);
byId("queries").max = Math.ceil(Math.max(4, ...DATA.trained.map((one) => Math.log10(one.paysFrom || 1))));
["queries", "size"].forEach((id) => byId(id).addEventListener("input", costs));
accuracies();
guess((guessed) => {
  const close = DATA.trained.filter((one) => one.isClose).map((one) =>
    ` On ${examples(one.examples)}, LoRA's mean of ${show(one.accuracy, 1)} % is higher too, but is not shown to be ahead.`);
  byId("verdict").textContent = `You said ${guessed || "never"}. ${DATA.sentence}${close.join("")}`;
  byId("queries").focus();
});
costs();
