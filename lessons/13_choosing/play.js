const best = DATA.shots.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
const ahead = DATA.trained.find((one) => one.accuracy > best.accuracy);
const WORDS = { 0: "no examples", 2: "2 examples", 4: "4 examples", 8: "8 examples" };

function accuracies() {
  const picture = byId("accuracy");
  const x = (n) => 62 + (310 * Math.log(n / 24)) / Math.log(700 / 24);
  const y = (percent) => 235 - (220 * (percent - 50)) / 50;
  for (const percent of [50, 60, 70, 80, 90, 100]) {
    draw(picture, "path", { d: `M48 ${y(percent)}H394`, class: "axis", "stroke-opacity": 0.25 });
    draw(picture, "text", { x: 43, y: y(percent) + 4, "text-anchor": "end" }, `${percent} %`);
  }
  for (const one of DATA.trained) draw(picture, "text", { x: x(one.examples), y: 260, "text-anchor": "middle" }, one.examples);
  draw(picture, "text", { x: 2, y: 260 }, "train on");
  const dashes = ["", "8 4", "3 3", "10 3 2 3"];
  const levels = [...DATA.shots].sort((a, b) => a.accuracy - b.accuracy);
  let last = Infinity;
  for (const shot of levels) {
    draw(picture, "path", { d: `M48 ${y(shot.accuracy)}H247`, class: "axis", "stroke-width": 2, "stroke-dasharray": dashes[DATA.shots.indexOf(shot)] });
    last = Math.min(last - 15, y(shot.accuracy) + 4);
    draw(picture, "text", { x: 252, y: last, class: "over" }, `prompt, ${WORDS[shot.examples]}`);
  }
  const answer = draw(picture, "g", { class: "after" });
  const points = DATA.trained.map((one) => `${x(one.examples)} ${y(one.accuracy)}`).join("L");
  draw(answer, "path", { d: `M${points}`, fill: "none", stroke: "#d95f02", "stroke-width": 3 });
  for (const one of DATA.trained) {
    draw(answer, "path", { d: `M${x(one.examples)} ${y(one.low)}V${y(one.high)}`, stroke: "#d95f02", "stroke-width": 2 });
    draw(answer, "circle", { cx: x(one.examples), cy: y(one.accuracy), r: 5, fill: "#d95f02" });
    draw(answer, "text", { x: x(one.examples) - 6, y: y(one.accuracy) - 13, "text-anchor": "middle" }, `${show(one.accuracy, 1)} %`);
  }
}

const prompted = (queries) => (queries * best.ms) / 1000;
const trained = (one, queries) => one.seconds + (queries * DATA.ms) / 1000;

function costs() {
  const queries = Math.round(10 ** Number(byId("queries").value));
  const one = DATA.trained[byId("size").selectedIndex];
  const [a, b] = [prompted(queries), trained(one, queries)];
  const crossing = Math.ceil((1000 * one.seconds) / (best.ms - DATA.ms));
  byId("said").textContent =
    `${show(queries)} queries: ${show(a)} s with ${WORDS[best.examples]} in the prompt, ${show(b)} s trained on ${one.examples}. ` +
    `Training pays from ${show(crossing)} queries on.`;
  const picture = byId("cost");
  picture.replaceChildren();
  const x = (n) => 58 + (312 * Math.log10(n)) / 4;
  const y = (seconds) => 208 - 38 * Math.log10(Math.max(seconds, 0.1) / 0.1);
  for (const seconds of [1, 10, 100, 1000]) {
    draw(picture, "path", { d: `M58 ${y(seconds)}H380`, class: "axis", "stroke-opacity": 0.25 });
    draw(picture, "text", { x: 53, y: y(seconds) + 4, "text-anchor": "end" }, `${show(seconds)} s`);
  }
  for (const n of [1, 10, 100, 1000, 10000]) draw(picture, "text", { x: x(n), y: 228, "text-anchor": "middle" }, show(n));
  const line = (cost) => "M" + Array.from({ length: 81 }, (_, i) => 10 ** (i / 20)).map((n) => `${x(n)} ${y(cost(n))}`).join("L");
  draw(picture, "path", { d: line(prompted), class: "axis", "stroke-width": 2.5, "stroke-dasharray": "8 4" });
  draw(picture, "path", { d: line((n) => trained(one, n)), fill: "none", stroke: "#d95f02", "stroke-width": 3 });
  draw(picture, "text", { x: x(1) + 8, y: y(trained(one, 1)) - 8 }, "trained");
  draw(picture, "text", { x: x(12), y: y(prompted(12)) + 20 }, "prompted");
  draw(picture, "path", { d: `M${x(queries)} 10V210`, class: "axis" });
  draw(picture, "circle", { cx: x(crossing), cy: y(prompted(crossing)), r: 5, fill: "var(--ink)" });
}

DATA.trained.forEach((one) => byId("size").add(new Option(`${one.examples} examples`)));
["queries", "size"].forEach((id) => byId(id).addEventListener("input", costs));
accuracies();
guess((examples) => {
  const isRight = examples === ahead.examples;
  byId("verdict").textContent =
    `${isRight ? "Yes" : "No"}: LoRA on ${ahead.examples} examples answers ${show(ahead.accuracy, 1)} % rightly, the best prompt ` +
    `(${WORDS[best.examples]}) ${show(best.accuracy, 1)} %. Fewer than ${ahead.examples} were not tried.`;
  byId("queries").focus();
});
costs();
