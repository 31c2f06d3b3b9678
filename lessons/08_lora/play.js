const change = numbers(DATA.change), columns = numbers(DATA.columns), rows = numbers(DATA.rows);
const [height, width] = change.shape;
const most = change.values.reduce((a, x) => Math.max(a, Math.abs(x)), 0) / 2;
const squares = DATA.sizes.map((size) => size * size);
const total = squares.reduce((a, x) => a + x, 0);
const held = (r) => squares.slice(0, r).reduce((a, x) => a + x, 0) / total; // share of the squares in the first r pieces
const needed = DATA.sizes.findIndex((_, i) => held(i + 1) >= 0.8) + 1;
const chance = DATA.random.map((size) => size * size), all = chance.reduce((a, x) => a + x, 0); // a matrix of random numbers
let guessed = null; // how many pieces the reader said
const percent = (share) => `${share < 1 && share >= 0.9995 ? "over 99.9" : show(100 * share, 1)} %`; // 100 % is all of it
const short = (share) => percent(share).replace("over", ">"); // in one line

heat(byId("whole"), height, width, change.at, most);

// A bar for each piece: its share of ΔW. One unit of the picture is a pixel, so that letters have the size of the page's.
function spectrum(r) {
  const svg = byId("spectrum"), wide = svg.clientWidth || 640, left = 52, step = (wide - left) / squares.length;
  const most = squares[0] / total, x = (piece) => left + step * (piece - 0.5), y = (share) => 112 - (98 * share) / most;
  const write = (x, y, text, anchor, style = "") => draw(svg, "text", { x, y, "text-anchor": anchor, style, class: "over" }, text);
  const tick = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((tick) => most / tick <= 3);
  svg.setAttribute("viewBox", `0 0 ${wide} 136`);
  svg.replaceChildren();
  for (let share = 0; share <= most; share += tick) {
    draw(svg, "path", { d: `M${left} ${y(share)}H${wide}`, class: "axis", "stroke-opacity": share ? 0.3 : 1 });
    write(left - 6, y(share) + 5, `${show(100 * share)} %`, "end");
  }
  const lines = draw(svg, "g"); // behind the bars
  squares.forEach((square, i) => {
    const box = { x: x(i + 1) - 0.4 * step, y: y(square / total), width: 0.8 * step, height: 112 - y(square / total) };
    draw(svg, "rect", { ...box, fill: i < r ? "var(--lora)" : "var(--soft)" });
  });
  const mark = (piece, low, text, look) => { // a line behind this piece
    const at = left + step * piece, side = at < wide / 2 ? 1 : -1;
    const under = squares[side > 0 ? piece : Math.max(0, piece - Math.ceil(110 / step))] ?? 0; // the highest bar there
    const up = Math.max(12, Math.min(low, y(under / total) - 5));
    write(at + 5 * side, up, text, side > 0 ? "start" : "end");
    draw(lines, "path", { d: `M${at} ${up - 10}V112`, stroke: "var(--ink)", "stroke-width": 1.5, ...look });
  };
  draw(svg, "path", { d: `M${chance.map((square, i) => `${x(i + 1)} ${y(square / all)}`).join("L")}`, fill: "none", stroke: "var(--scratch)", "stroke-width": 3 });
  const isFirst = guessed !== null && guessed < needed; // the label of the line at the left is the upper one
  mark(needed, isFirst ? 94 : 76, `80 %: ${needed} piece${needed === 1 ? "" : "s"}`);
  if (guessed !== null) mark(guessed, isFirst ? 76 : 94, `your guess: ${guessed}`, { "stroke-dasharray": "3 3" });
  write(left, 130, "piece 1", "start");
  write(wide, 130, `piece ${squares.length}`, "end");
  const share = r ? `piece ${r} adds ${show((100 * squares[r - 1]) / total, 1)} %` : "share by piece";
  write(wide, 22, share, "end", r ? "fill: var(--lora); font-weight: 600" : "");
  write(wide, 44, "line: random numbers", "end", "fill: var(--scratch); font-weight: 600");
}

function update() {
  const r = Number(byId("rank").value);
  const sum = new Float64Array(height * width);
  for (let k = 0; k < r; k++)
    for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) sum[i * width + j] += columns.at(i, k) * rows.at(k, j);
  const at = (i, j) => sum[i * width + j];
  heat(byId("sum"), height, width, at, most);
  heat(byId("rest"), height, width, (i, j) => change.at(i, j) - at(i, j), most);
  const last = r - 1; // with r = 0 there is no piece
  heat(byId("column"), height, 1, (i) => (r ? columns.at(i, last) / DATA.sizes[last] : 0), 0.25);
  heat(byId("row"), 1, width, (_, j) => (r ? rows.at(last, j) : 0), 0.25);
  const count = r * (height + width), part = count / (height * width);
  const holds = `${r} piece${r === 1 ? " holds" : "s hold"} ${percent(held(r))}`;
  byId("sum-says").textContent = !byId("guess").hidden ? "the first piece: column × row; smooth, because all is sorted by it" : r ? holds : "no pieces yet";
  byId("last").textContent = r ? `piece ${r}: column × row` : "\u00a0"; // its line stays
  byId("rest-says").textContent = `the rest: ${show(100 - 100 * held(r), 1)} %`;
  const random = chance.slice(0, r).reduce((a, x) => a + x, 0) / all;
  byId("said").textContent =
    `r = ${r}: ${show(100 * part, 1)} % of the numbers, ${short(held(r))} of ΔW (of random numbers ${short(random)}). ` +
    `With ${r} in every matrix: ${short(DATA.gain[r])} of the gain in text.`;
  byId("r").textContent = r;
  gauge("gained", DATA.gain[r], short(DATA.gain[r]));
  gauge("held", held(r), short(held(r)));
  spectrum(r);
}

byId("rank").value = 1;
const redraw = begin({ r: "rank" }, update, (guess) => {
  guessed = guess;
  if (guess === null && !given().has("r")) byId("rank").value = needed;
  const r = guess ?? Number(byId("rank").value); // a link speaks of its own r first
  const answer = `80 % need ${needed} piece${needed === 1 ? "" : "s"}`;
  const share = show((100 * needed * (height + width)) / (height * width), 1);
  byId("verdict").replaceChildren(
    r === needed ? "" : `${r} piece${r === 1 ? " holds" : "s hold"} ${percent(held(r))} of ΔW. `,
    Object.assign(document.createElement("b"), { textContent: answer }),
    `, with ${share} % of ΔW's numbers.${guess === needed ? " Exactly what you said." : ""}`);
  if (guess !== null) glide(byId("rank"), needed, () => redraw(), 2000);
  return needed;
});
addEventListener("resize", update);
