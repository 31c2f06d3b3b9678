// A language model in plain JavaScript, in four parts: the weights, the tokenizer, the forward pass, and the page.
// minilora/models/llama.py computes the same with NumPy, and tests/classroom/test_live_page.py compares the two.

// 1. The weights. They stand in the page as text, 5 characters for 4 bytes; live.py wrote them in the order of reading.

function bytesOf(text) {
  const digit = new Uint8Array(128);
  for (let i = 0; i < 85; i++) digit[DATA.digits.charCodeAt(i)] = i;
  const characters = text.replace(/\n/g, "");
  const words = new Uint32Array(characters.length / 5);
  for (let i = 0, at = 0; i < words.length; i++) {
    let word = 0;
    for (let k = 0; k < 5; k++) word = 85 * word + digit[characters.charCodeAt(at++)];
    words[i] = word;
  }
  return words.buffer;
}

function modelFrom(buffer) {
  let at = 0;
  const floats = (n) => new Float32Array(buffer.slice(at, (at += 4 * n)));
  // A matrix has one scale per row, and a code from -127 to 127 per weight: weight = scale · code.
  const matrix = (rows, columns) => {
    const scales = floats(rows), codes = new Int8Array(buffer, at, rows * columns);
    const values = new Float32Array(codes.length);
    for (let i = 0, row = 0; row < rows; row++)
      for (let k = 0; k < columns; k++, i++) values[i] = scales[row] * codes[i];
    at += codes.length;
    if (at % 4) throw new Error("floats begin at a multiple of 4 bytes");
    return { rows, columns, values };
  };
  const { vocab_size, hidden_size: width, intermediate_size: inner, num_hidden_layers, head_dim, rank } = DATA.config;
  const heads = DATA.config.num_attention_heads * head_dim, groups = DATA.config.num_key_value_heads * head_dim;
  const shapes = { // of the seven linear maps in a layer: [out, in]
    q: [heads, width], k: [groups, width], v: [groups, width], o: [width, heads],
    gate: [inner, width], up: [inner, width], down: [width, inner],
  };
  const model = { embedding: matrix(vocab_size, width), layers: [] };
  for (let i = 0; i < num_hidden_layers; i++) {
    const layer = { attentionNorm: floats(width), mlpNorm: floats(width) };
    for (const [name, [out, into]] of Object.entries(shapes)) layer[name] = { weight: matrix(out, into) };
    model.layers.push(layer);
  }
  model.norm = floats(width);
  for (const layer of model.layers) // the adapter: an A and a B beside each of these maps
    for (const [name, [out, into]] of Object.entries(shapes))
      Object.assign(layer[name], { A: matrix(rank, into), B: matrix(rank, out) }); // B is transposed
  return model;
}

// 2. The tokenizer: byte-level byte-pair encoding, with GPT-2's rule for what a word is.

const END = 0; // <|endoftext|>, which stands before and after each document
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

// Token 1 … 256 are the bytes, those with a visible character first. Token 257 + i is the i-th merge of two tokens.
const isVisible = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
const allBytes = Array.from({ length: 256 }, (_, byte) => byte);
const bytesOfToken = [[], ...[...allBytes.filter(isVisible), ...allBytes.filter((byte) => !isVisible(byte))].map((b) => [b])];
const tokenOfByte = new Map(bytesOfToken.slice(1).map(([byte], i) => [byte, i + 1]));
const merges = new Map(); // the pair as one number → the token that it becomes; an earlier merge has a lower number
DATA.merges.forEach(([left, right], i) => {
  merges.set(left * 65536 + right, 257 + i);
  bytesOfToken.push([...bytesOfToken[left], ...bytesOfToken[right]]);
});

function encode(text) {
  const ids = [];
  for (const [word] of text.matchAll(WORDS)) {
    const tokens = Array.from(new TextEncoder().encode(word), (byte) => tokenOfByte.get(byte));
    while (true) { // apply the earliest merge that is possible, wherever it stands first
      let best = Infinity, place = -1;
      for (let i = 0; i + 1 < tokens.length; i++) {
        const merged = merges.get(tokens[i] * 65536 + tokens[i + 1]);
        if (merged < best) [best, place] = [merged, i];
      }
      if (place < 0) break;
      tokens.splice(place, 2, best);
    }
    for (const token of tokens) ids.push(token);
  }
  return ids;
}

// The text of a token, or null if its bytes are only a part of a character.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
function textOf(token) {
  const text = decoder.decode(new Uint8Array(bytesOfToken[token]));
  return text.includes("\ufffd") ? null : text;
}

// 3. The forward pass. T tokens are T rows of `width` numbers, the residual stream; each layer adds to it.
// All arrays have three rows more than are in use, since `linear` takes rows four at a time.

const rowsOf = (n, columns) => new Float32Array((n + 3) * columns);

// y = x Wᵀ: each output is the dot product of a row of x with a row of W.
function linear(x, n, { rows, columns, values }) {
  const y = rowsOf(n, rows);
  for (let t = 0; t < n; t += 4) { // four rows of x at once, so that each weight is loaded once for four products
    const a = t * columns, b = a + columns, c = b + columns, d = c + columns;
    for (let row = 0; row < rows; row++) {
      const start = row * columns;
      let one = 0, two = 0, three = 0, four = 0;
      for (let i = 0; i < columns; i++) {
        const weight = values[start + i];
        one += x[a + i] * weight;
        two += x[b + i] * weight;
        three += x[c + i] * weight;
        four += x[d + i] * weight;
      }
      const at = t * rows + row;
      y[at] = one;
      y[at + rows] = two;
      y[at + 2 * rows] = three;
      y[at + 3 * rows] = four;
    }
  }
  return y;
}

// LoRA: y = x Wᵀ + λ · (α/r) · (x Aᵀ) Bᵀ. W is read and never written. The first r rows of A and columns of B are in use;
// α/r is that of training, 16/8 = 2.
function adapted(x, n, { weight, A, B }, r, strength) {
  const y = linear(x, n, weight);
  const scale = (strength * DATA.config.alpha) / DATA.config.rank;
  if (r === 0 || scale === 0) return y; // the base, exactly
  for (let t = 0; t < n; t++)
    for (let k = 0; k < r; k++) {
      let found = 0; // how much of direction k is in the input …
      for (let i = 0; i < A.columns; i++) found += x[t * A.columns + i] * A.values[k * A.columns + i];
      for (let j = 0; j < B.columns; j++) // … is how much of direction k is added to the output
        y[t * B.columns + j] += scale * found * B.values[k * B.columns + j];
    }
  return y;
}

// RMSNorm: each row is divided by the root of its mean square, then multiplied by a learned weight.
function normalized(x, n, weight) {
  const width = weight.length, y = rowsOf(n, width);
  for (let t = 0; t < n; t++) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += x[t * width + i] ** 2;
    const inverse = 1 / Math.sqrt(squares / width + DATA.config.rms_norm_eps);
    for (let i = 0; i < width; i++) y[t * width + i] = x[t * width + i] * inverse * weight[i];
  }
  return y;
}

// Rotary positions: number i and number i + D/2 of a head are a point in the plane, turned by position · θ^(-2i/D). The
// product of a query and a key then depends on how far apart they stand.
function rotate(x, n, heads, size) {
  const half = size / 2;
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(DATA.config.rope_theta ** ((-2 * i) / size));
    for (let t = 0; t < n; t++) {
      const cos = Math.cos(t * frequency), sin = Math.sin(t * frequency);
      for (let head = 0; head < heads; head++) {
        const at = (t * heads + head) * size + i, a = x[at], b = x[at + half];
        x[at] = a * cos - b * sin;
        x[at + half] = b * cos + a * sin;
      }
    }
  }
}

// Attention: each token takes a mean of the values of the tokens up to it, weighted by how well its query fits their keys.
function attention(q, k, v, n, heads, groups, size) {
  const y = rowsOf(n, heads * size), weights = new Float64Array(n);
  for (let head = 0; head < heads; head++) {
    const group = Math.floor((head * groups) / heads); // two query heads share one key and value head
    for (let t = 0; t < n; t++) {
      const query = (t * heads + head) * size;
      let most = -Infinity, total = 0;
      for (let s = 0; s <= t; s++) {
        const key = (s * groups + group) * size;
        let score = 0;
        for (let i = 0; i < size; i++) score += q[query + i] * k[key + i];
        weights[s] = score / Math.sqrt(size);
        most = Math.max(most, weights[s]);
      }
      for (let s = 0; s <= t; s++) total += weights[s] = Math.exp(weights[s] - most); // softmax
      for (let s = 0; s <= t; s++) {
        const share = weights[s] / total, value = (s * groups + group) * size;
        for (let i = 0; i < size; i++) y[query + i] += share * v[value + i];
      }
    }
  }
  return y;
}

// Token ids (n) → hidden states (n, width), with the first r pieces of the adapter at a strength.
function forward(ids, r, strength) {
  const { hidden_size: width, num_attention_heads: heads, num_key_value_heads: groups, head_dim: size } = DATA.config;
  const n = ids.length;
  const x = rowsOf(n, width);
  const add = (y) => { for (let i = 0; i < n * width; i++) x[i] += y[i]; };
  ids.forEach((id, t) => x.set(model.embedding.values.subarray(id * width, (id + 1) * width), t * width));
  for (const layer of model.layers) {
    const a = normalized(x, n, layer.attentionNorm);
    const [q, k, v] = [layer.q, layer.k, layer.v].map((map) => adapted(a, n, map, r, strength));
    rotate(q, n, heads, size);
    rotate(k, n, groups, size);
    add(adapted(attention(q, k, v, n, heads, groups, size), n, layer.o, r, strength));
    const b = normalized(x, n, layer.mlpNorm);
    const gate = adapted(b, n, layer.gate, r, strength), up = adapted(b, n, layer.up, r, strength);
    for (let i = 0; i < gate.length; i++) gate[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i]; // SwiGLU
    add(adapted(gate, n, layer.down, r, strength));
  }
  return normalized(x, n, model.norm);
}

// Logits of the token after each of the last `count` of n tokens: the head is the embedding, read the other way.
function logits(ids, r, strength, count = 1) {
  const from = (ids.length - count) * DATA.config.hidden_size;
  const hidden = rowsOf(count, DATA.config.hidden_size);
  hidden.set(forward(ids, r, strength).subarray(from, from + count * DATA.config.hidden_size));
  return linear(hidden, count, model.embedding).subarray(0, count * DATA.config.vocab_size);
}

// Logits → probabilities.
function softmax(scores) {
  const most = Math.max(...scores), powers = Float64Array.from(scores, (score) => Math.exp(score - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

// 4. The page.

let model; // the weights, once they are read
let ids, rows, base, full, now; // the tokens; those in the table; what three models expect next: probabilities (vocabulary)
let rests; // token in the table → the letters that complete it to a word, as far as they are known
const likeliest = (p) => p.indexOf(Math.max(...p));
const percent = (p) => `${show(100 * p, 1)} %`;
const settings = () => [Number(byId("rank").value), Number(byId("strength").value)];
const run = (tokens, r, strength) => softmax(logits([END, ...tokens.slice(1 - DATA.config.context)], r, strength));

// A token as it is read: without the space before it, … if it goes on with a word, ↵ for a new line, ␣ for other spaces.
function shown(token) {
  if (token === END) return "end of text";
  const text = textOf(token);
  if (text === null) return `byte ${bytesOfToken[token].map((b) => b.toString(16).toUpperCase()).join(" ")}`;
  const isRest = /^\p{L}/u.test(text) && /\p{L}$/u.test(byId("text").value);
  return (isRest ? "…" : "") + text.replace(/^ (?=[^ ])/, "").replace(/ {4,}/g, (run) => `␣×${run.length}`)
    .replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥") + (rests.get(token) ?? "");
}

// The tokens that one of two models ranks highest, in turns, and the most likely one of a third. Their order does not
// depend on the third, so that rows stay in place while the sliders move.
function chosen(before, after, third) {
  const [first, second] = [before, after].map((p) => Array.from(p.keys()).sort((a, b) => p[b] - p[a]));
  const tokens = new Set();
  for (let i = 0; tokens.size < DATA.rows; i++) tokens.add(first[i]).add(second[i]);
  const most = likeliest(third), few = [...tokens].slice(0, DATA.rows);
  if (!few.includes(most)) few[DATA.rows - 1] = most;
  return few.sort((a, b) => Math.max(before[b], after[b]) - Math.max(before[a], after[a]));
}

// After a change of the text: its tokens, and all that does not depend on the sliders.
function read() {
  const text = byId("text").value, room = DATA.config.context - 1, own = DATA.examples.findIndex((one) => one.text === text);
  [...byId("examples").children].forEach((button, i) => button.setAttribute("aria-pressed", i === own));
  byId("look").textContent = own < 0 ? DATA.own : DATA.examples[own].look;
  for (const prompt of document.querySelectorAll(".prompt")) prompt.textContent = text.length > 60 ? `…${text.slice(-60)}` : text;
  ids = encode(text);
  if (document.body.dataset.ready) for (const { sheet } of sheets()) sheet.textContent = ""; // not the record's, at first
  const count = `${show([...text].length)} characters, ${show(ids.length)} tokens`;
  byId("note").textContent = ids.length > room
    ? `${count}: more than the page reads, so it goes by the last ${room}. Base and adapter trained on ${room + 1} at a time.`
    : ids.length ? `${count}.` : "Nothing is typed, so this is how a document begins.";
  rests = new Map(DATA.examples[own]?.rows.map(([token, , rest]) => [token, rest])); // from the record, or none yet
  base = run(ids, 0, 0);
  full = run(ids, DATA.config.rank, 1);
  update();
}

// After a change of the text, of r or of λ.
function update() {
  const [r, strength] = settings();
  now = r === 0 || strength === 0 ? base : r === DATA.config.rank && strength === 1 ? full : run(ids, r, strength);
  rows = chosen(base, full, now);
  paint();
  for (const { sheet, state } of sheets()) if (sheet.dataset.state !== state) sheet.dataset.state = "";
  later("write", 200, () => oneByOne(slowly()));
}

// One row per token: a button that appends it, a bar and a number for each model.
function paint() {
  const [r, strength] = settings(), [expected, instead] = [base, now].map(likeliest);
  byId("rank-says").textContent = r;
  byId("strength-says").textContent = strength.toFixed(2);
  byId("said").textContent =
    `The base expects “${shown(expected)}” first (${percent(base[expected])}). With r = ${r} and λ = ` +
    `${strength.toFixed(2)} it is “${shown(instead)}” (${percent(now[instead])}).`;
  const most = [0.1, 0.2, 0.5, 1].find((end) => rows.every((token) => Math.max(base[token], now[token]) <= end));
  [...byId("scale").children].forEach((mark, i) => (mark.textContent = `${show(50 * i * most)}${i < 2 ? "" : " %"}`));
  [...rows, null].forEach((token, i) => {
    const [head, bars, ...cells] = byId("next").tBodies[0].rows[i].cells;
    const shares = [base, now].map((p) => (token === null ? 1 - rows.reduce((total, one) => total + p[one], 0) : p[token]));
    if (token !== null) {
      const button = head.querySelector("button") ?? head.appendChild(document.createElement("button"));
      const text = textOf(token) && textOf(token) + (rests.get(token) ?? "");
      Object.assign(button, { textContent: shown(token), type: "button", title: "write it", disabled: !text });
      button.onclick = () => write(byId("text").value + text);
      shares.forEach((share, k) => (bars.children[k].style.width = `${(100 * share) / most}%`));
    }
    shares.forEach((share, k) => (cells[k].textContent = percent(share)));
  });
}

// What takes many forward passes, one at a time: the rests of the words, and how both models go on.
function* slowly() {
  const isLetters = (token) => /^\p{L}+$/u.test(textOf(token) ?? "");
  for (const token of rows) {
    if (rests.has(token)) continue;
    const word = [token], way = full[token] > base[token] ? [DATA.config.rank, 1] : [0, 0]; // the one that expects it more
    while (word.length < DATA.longest && /\p{L}$/u.test(textOf(word.at(-1)) ?? "")) {
      const next = likeliest(run([...ids, ...word], ...way));
      if (!isLetters(next)) break;
      word.push(next);
      yield;
    }
    rests.set(token, word.slice(1).map(textOf).join(""));
    paint();
    yield;
  }
  const stale = sheets().filter(({ sheet, state }) => sheet.dataset.state !== state);
  for (let i = 0; i < DATA.written; i++)
    for (const { sheet, r, strength, written } of stale) {
      if (written.at(-1) === END) continue;
      written.push(likeliest(run([...ids, ...written], r, strength)));
      sheet.textContent = decoder.decode(new Uint8Array(written.flatMap((token) => bytesOfToken[token])));
      yield;
    }
  for (const { sheet, state } of stale) sheet.dataset.state = state;
}

// What each of the two sheets goes on from: the tokens, r and λ. A sheet is pale until that is what it shows.
function sheets() {
  return [["base-writes", 0, 0], ["lora-writes", ...settings()]].map(([name, r, strength]) =>
    ({ sheet: byId(name), state: JSON.stringify([ids, r, strength]), r, strength, written: [] }));
}

// Take the steps, with time in between for the reader's input, and none once a later call has begun.
async function oneByOne(steps) {
  const own = (oneByOne.current = {});
  for (const _ of steps) {
    await new Promise((done) => setTimeout(done));
    if (oneByOne.current !== own) return;
  }
}

function write(text) {
  byId("text").value = text;
  byId("text").scrollTop = byId("text").scrollHeight; // the end is what counts
  changed();
}

const timers = {};
function later(name, milliseconds, action) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(action, milliseconds);
}

function changed() {
  later("read", ids.length > 40 ? 250 : 30, read);
  later("address", 400, remember);
}

function start() {
  model = modelFrom(bytesOf(byId("weights").textContent));
  controls = { t: "text", r: "rank", s: "strength" };
  restore();
  read();
  byId("text").addEventListener("input", changed);
  for (const slider of ["rank", "strength"])
    byId(slider).addEventListener("input", () => {
      later("update", 0, update);
      later("address", 400, remember);
    });
  [...byId("examples").children].forEach((button, i) => button.addEventListener("click", () => {
    [byId("rank").value, byId("strength").value] = [DATA.config.rank, 1];
    write(DATA.examples[i].text);
  }));
  addEventListener("hashchange", restore);
  document.body.dataset.ready = performance.now();
}

requestAnimationFrame(() => setTimeout(start)); // the page is painted first
addEventListener("beforeprint", () => (byId("brindle").open = true)); // paper shows all of it
