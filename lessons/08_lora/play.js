const change = numbers(DATA.change), columns = numbers(DATA.columns), rows = numbers(DATA.rows);
const [height, width] = change.shape;
const most = change.values.reduce((a, x) => Math.max(a, Math.abs(x)), 0) / 2;
const squares = DATA.sizes.map((size) => size * size);
const total = squares.reduce((a, x) => a + x, 0);
const held = (r) => squares.slice(0, r).reduce((a, x) => a + x, 0) / total; // share of the squares in the first r pieces
const needed = (share) => DATA.sizes.findIndex((_, i) => held(i + 1) >= share) + 1;

heat(byId("whole"), height, width, change.at, most);
const wide = 632 / DATA.sizes.length;
const bars = squares.map((square, i) => {
  const tall = (120 * square) / squares[0];
  return draw(byId("spectrum"), "rect", { x: 4 + wide * i, y: 125 - tall, width: 0.8 * wide, height: tall });
});
draw(byId("spectrum"), "path", { d: "M2 125H638", class: "axis" });

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
  byId("sum-says").textContent = r === 0 ? "no pieces yet" : r === 1 ? "a piece: column × row" : `${r} pieces`;
  byId("said").textContent =
    `r = ${r}: ${show(count)} numbers, ${show(100 * part, 1)} % of ${show(height * width)}; ` +
    `they hold ${show(100 * held(r), 1)} % of ΔW`;
  byId("r").textContent = r;
  gauge("count", part, `${show(100 * part, 1)} %`);
  gauge("held", held(r), `${show(100 * held(r), 1)} %`);
  bars.forEach((bar, i) => bar.setAttribute("fill", i < r ? "var(--lora)" : "var(--soft)"));
}

byId("rank").value = 1;
begin({ r: "rank" }, update, (pieces) => {
  const right = needed(0.8);
  const said = pieces === null ? "" : `${pieces} pieces hold ${show(100 * held(pieces), 1)} %. `;
  byId("verdict").textContent =
    said + (pieces === right ? "Exactly: fewer hold less than 80 %." : `80 % need ${right} pieces.`) + " Add them up, one by one.";
  if (pieces === null && !given().has("r")) byId("rank").value = needed(0.8);
  if (pieces !== null) byId("rank").focus({ preventScroll: true });
});
