// A language model in plain JavaScript, in four parts: the weights, the tokenizer, the forward pass, and the page.
// minilora/models/llama.py computes the same with NumPy, and tests/classroom/test_live_page.py compares the two.

// 1. The weights. They stand in the page as text, 5 characters for 4 bytes (Python's base64.b85encode), in this order.

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

function bytesOf(text) {
  const digits = [], bytes = new DataView(new ArrayBuffer((text.length / 5) * 4));
  for (let i = 0; i < 85; i++) digits[DIGITS.charCodeAt(i)] = i;
  for (let i = 0; i < text.length; i += 5) {
    let word = 0;
    for (let k = 0; k < 5; k++) word = 85 * word + digits[text.charCodeAt(i + k)];
    bytes.setUint32((i / 5) * 4, word);
  }
  return bytes.buffer;
}

const rowOf = (x, i, width) => x.subarray(i * width, (i + 1) * width);

function modelFrom(buffer) {
  let at = 0;
  const floats = (n) => new Float32Array(buffer.slice(at, (at += 4 * n)));
  // A matrix, as a list of its rows. It has one scale per row, and a code from -127 to 127 per weight.
  const matrix = (rows, columns) => {
    const scales = floats(rows), codes = new Int8Array(buffer, at, rows * columns);
    at += codes.length;
    return Array.from(scales, (scale, i) => new Float32Array(rowOf(codes, i, columns)).map((code) => scale * code));
  };
  const { vocab_size, hidden_size: width, intermediate_size: inner, num_hidden_layers, head_dim, rank } = DATA.config;
  const heads = DATA.config.num_attention_heads * head_dim, groups = DATA.config.num_key_value_heads * head_dim;
  const shapes = { // of the seven linear maps in a layer: [out, in]
    q: [heads, width], k: [groups, width], v: [groups, width], o: [width, heads],
    gate: [inner, width], up: [inner, width], down: [width, inner],
  };
  const model = { embedding: matrix(vocab_size, width), layers: [] };
  for (let i = 0; i < num_hidden_layers; i++) {
    const layer = {};
    for (const [name, shape] of Object.entries(shapes)) layer[name] = { W: matrix(...shape) };
    model.layers.push({ ...layer, attentionNorm: floats(width), mlpNorm: floats(width) });
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
const inOrder = [...allBytes.filter(isVisible), ...allBytes.filter((byte) => !isVisible(byte))];
const bytesOfToken = [[], ...inOrder.map((byte) => [byte])];
const merges = new Map(); // a pair of tokens, as text → the token that it becomes; an earlier merge has a lower number
DATA.merges.forEach(([left, right], i) => {
  merges.set(`${left} ${right}`, 257 + i);
  bytesOfToken.push([...bytesOfToken[left], ...bytesOfToken[right]]);
});

function encode(text) {
  return [...text.matchAll(WORDS)].flatMap(([word]) => {
    const tokens = Array.from(new TextEncoder().encode(word), (byte) => 1 + inOrder.indexOf(byte));
    while (true) { // apply the earliest merge that is possible, wherever it stands first
      let best = Infinity, place = -1;
      for (let i = 0; i + 1 < tokens.length; i++) {
        const merged = merges.get(`${tokens[i]} ${tokens[i + 1]}`);
        if (merged < best) [best, place] = [merged, i];
      }
      if (place < 0) return tokens;
      tokens.splice(place, 2, best);
    }
  });
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const decode = (tokens) => decoder.decode(new Uint8Array(tokens.flatMap((token) => bytesOfToken[token])));

// 3. The forward pass. T tokens are T rows of `width` numbers, the residual stream; each layer adds to it.

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function addTo(row, other, factor = 1) {
  for (let i = 0; i < row.length; i++) row[i] += factor * other[i];
}

// y = x Wᵀ: each output is the dot product of a row of x with a row of W.
function linear(x, W) {
  return x.map((row) => {
    const y = new Float32Array(W.length);
    for (let i = 0; i < W.length; i++) y[i] = dot(row, W[i]);
    return y;
  });
}

// LoRA: y = x Wᵀ + λ · (α/r) · (x Aᵀ) Bᵀ. W is read and never written. The first r rows of A and columns of B are in use;
// α/r is that of training, 16/8 = 2.
function adapted(x, { W, A, B }, r, strength) {
  const y = linear(x, W), scale = (strength * DATA.config.alpha) / DATA.config.rank;
  if (scale !== 0) // else it is the base, exactly
    x.forEach((row, t) => {
      // How much of direction k is in the input is how much of direction k is added to the output.
      for (let k = 0; k < r; k++) addTo(y[t], B[k], scale * dot(row, A[k]));
    });
  return y;
}

// RMSNorm: each row is divided by the root of its mean square, then multiplied by a learned weight.
function normalized(x, weight) {
  return x.map((row) => {
    const inverse = 1 / Math.sqrt(dot(row, row) / row.length + DATA.config.rms_norm_eps);
    return row.map((value, i) => value * inverse * weight[i]);
  });
}

// Rotary positions: number i and number i + D/2 of a head are a point in the plane, turned by position · θ^(-2i/D). The
// product of a query and a key then depends on how far apart they stand.
function rotate(x, size) {
  const half = size / 2;
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(DATA.config.rope_theta ** ((-2 * i) / size));
    x.forEach((row, t) => {
      const cos = Math.cos(t * frequency), sin = Math.sin(t * frequency);
      for (let at = i; at < row.length; at += size) {
        const a = row[at], b = row[at + half];
        row[at] = a * cos - b * sin;
        row[at + half] = b * cos + a * sin;
      }
    });
  }
}

// Attention: each token takes a mean of the values of the tokens up to it, weighted by how well its query fits their keys.
function attention(q, k, v) {
  const { num_attention_heads: heads, num_key_value_heads: groups, head_dim: size } = DATA.config;
  const y = q.map((row) => new Float32Array(row.length));
  for (let head = 0; head < heads; head++) {
    const group = Math.floor((head * groups) / heads); // two query heads share one key and value head
    q.forEach((row, t) => {
      const query = rowOf(row, head, size), out = rowOf(y[t], head, size);
      const scores = k.slice(0, t + 1).map((key) => dot(query, rowOf(key, group, size)) / Math.sqrt(size));
      softmax(scores).forEach((share, s) => addTo(out, rowOf(v[s], group, size), share));
    });
  }
  return y;
}

// Scores → shares of 1.
function softmax(scores) {
  const most = Math.max(...scores), powers = Array.from(scores, (score) => Math.exp(score - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

// Token ids → logits of the token after each of the last `count`, with the first r pieces of the adapter at a strength.
function logits(ids, r, strength, count = 1) {
  const x = ids.map((id) => model.embedding[id].slice());
  const add = (y) => y.forEach((row, t) => addTo(x[t], row));
  for (const layer of model.layers) {
    const a = normalized(x, layer.attentionNorm);
    const [q, k, v] = [layer.q, layer.k, layer.v].map((map) => adapted(a, map, r, strength));
    rotate(q, DATA.config.head_dim);
    rotate(k, DATA.config.head_dim);
    add(adapted(attention(q, k, v), layer.o, r, strength));
    const b = normalized(x, layer.mlpNorm);
    const [gate, up] = [layer.gate, layer.up].map((map) => adapted(b, map, r, strength));
    const inner = gate.map((row, t) => row.map((value, i) => (value / (1 + Math.exp(-value))) * up[t][i])); // SwiGLU
    add(adapted(inner, layer.down, r, strength));
  }
  return linear(normalized(x.slice(-count), model.norm), model.embedding); // the head is the embedding, read the other way
}

// 4. The page.

const TRAINED = [DATA.config.rank, 1]; // r and λ
const WRITTEN = 16, LONGEST = 6; // tokens with which a model goes on; tokens of a word in the table
const ROWS = byId("next").tBodies[0].rows.length - 1; // the last is for all other tokens
const OWN = "A sentence of your own. Choose a word of the table to write on.";

let model; // once its weights are read
let ids = []; // the text's tokens
let base, full, now; // what three models expect after them: the base, with the whole adapter, with the sliders' part of it
let rows; // the tokens in the table
let rests; // token → the letters that complete it to a word, once they are known
let known; // tokens and a model → the token that it expects most after them
let turn = 0; // counts the changes of text and sliders
const likeliest = (p) => p.indexOf(Math.max(...p));
const percent = (p) => `${show(100 * p, 1)} %`;
const settings = () => [Number(byId("rank").value), Number(byId("strength").value)];
const run = (tokens, r, strength) => softmax(logits([END, ...tokens.slice(1 - DATA.config.context)], r, strength)[0]);

// A token as it is read: without the space before it, … if it goes on with a word, ↵ for a new line, ␣ for other spaces.
function shown(token) {
  if (token === END) return "end of text";
  const text = decode([token]);
  if (text.includes("\ufffd")) return `byte ${bytesOfToken[token].map((byte) => byte.toString(16)).join(" ")}`;
  const isRest = /^\p{L}/u.test(text) && /\p{L}$/u.test(byId("text").value);
  return (isRest ? "…" : "") + text.replace(/^ (?=[^ ])/, "").replace(/ {4,}/g, (run) => `␣×${run.length}`)
    .replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥") + (rests.get(token) ?? "");
}

// The tokens that base and adapter rank highest, in turns, and the likeliest for the sliders' model. Their order does not
// depend on the last, so that rows stay in place while the sliders move.
function chosen() {
  const [first, second] = [base, full].map((p) => [...p.keys()].sort((a, b) => p[b] - p[a]));
  const tokens = [...new Set(first.slice(0, ROWS).flatMap((token, i) => [token, second[i]]))].slice(0, ROWS);
  if (!tokens.includes(likeliest(now))) tokens[ROWS - 1] = likeliest(now);
  return tokens.sort((a, b) => Math.max(base[b], full[b]) - Math.max(base[a], full[a]));
}

// After a change of the text.
function read() {
  const text = byId("text").value, room = DATA.config.context - 1, own = DATA.examples.findIndex((one) => one.text === text);
  [...byId("examples").children].forEach((button, i) => button.setAttribute("aria-pressed", i === own));
  byId("look").textContent = own < 0 ? OWN : DATA.examples[own].look;
  for (const prompt of document.querySelectorAll(".prompt")) prompt.textContent = text.replace(/^.+(?=.{60}$)/s, "…");
  ids = encode(text);
  byId("note").textContent = ids.length > room ? `reads the last ${room} of ${show(ids.length)} tokens`
    : ids.length ? `${show([...text].length)} characters, ${show(ids.length)} tokens` : "empty: how a document begins";
  [base, full, rests, known] = [run(ids, 0, 0), run(ids, ...TRAINED), new Map(), new Map()];
  update();
}

// After a change of the text, of r or of λ.
function update() {
  const [r, strength] = settings();
  turn++;
  now = r * strength === 0 ? base : r === TRAINED[0] && strength === 1 ? full : run(ids, r, strength);
  rows = chosen();
  paint();
  byId("lora-writes").classList.add("pale"); // until it is written anew
  later(writeOn, 200);
}

// One row per token: a button that appends it, a bar and a number for each model.
function paint() {
  const [r, strength] = settings(), models = [base, now], [before, after] = models.map(likeliest);
  byId("rank-says").textContent = `${r} of ${TRAINED[0]} pieces`;
  byId("strength-says").textContent = strength.toFixed(2);
  byId("said").textContent =
    `Base: “${shown(before)}” leads (${percent(base[before])}). ` +
    `Base + ${strength.toFixed(2)} × ${r} pieces: “${shown(after)}” leads (${percent(now[after])}).`;
  const most = [0.1, 0.2, 0.5, 1].find((end) => rows.every((token) => Math.max(base[token], now[token]) <= end));
  [...byId("scale").children].forEach((mark, i) => (mark.textContent = `${show(50 * i * most)}${i < 2 ? "" : " %"}`));
  const lines = Array.from(byId("next").tBodies[0].rows, (line) => [...line.cells]);
  rows.forEach((token, i) => {
    const [{ firstElementChild: button }, bars, ...cells] = lines[i], text = decode([token]);
    button.textContent = shown(token);
    button.disabled = !text || text.includes("\ufffd"); // the end of the text, or part of a character
    button.onclick = () => write(byId("text").value + text + (rests.get(token) ?? ""));
    models.forEach((p, k) => {
      bars.children[k].style.width = `${(100 * p[token]) / most}%`;
      cells[k].textContent = percent(p[token]);
    });
  });
  models.forEach((p, k) => {
    lines[ROWS][k + 2].textContent = percent(1 - rows.reduce((total, token) => total + p[token], 0));
  });
}

// The token that a model expects most. The page answers its reader before each forward pass; if text or sliders have
// changed meanwhile, the promise is never fulfilled, which ends the work that waits for it.
async function nextToken(tokens, r, strength) {
  const began = turn, key = [r, strength, ...tokens].join();
  if (!known.has(key)) {
    await new Promise((go) => setTimeout(() => turn === began && go()));
    known.set(key, likeliest(run(tokens, r, strength)));
  }
  return known.get(key);
}

// What takes many forward passes goes on side by side, a pass of each in turn.
function writeOn() {
  rows.forEach(complete);
  fill("base-writes", 0, 0);
  fill("lora-writes", ...settings());
}

// Complete a token of the table to a word.
async function complete(token) {
  const word = [token], best = full[token] > base[token] ? TRAINED : [0, 0]; // the model that expects it more
  while (word.length < LONGEST && /\p{L}$/u.test(decode(word))) {
    const letters = await nextToken([...ids, ...word], ...best);
    if (!/^\p{L}+$/u.test(decode([letters]))) break;
    word.push(letters);
  }
  rests.set(token, decode(word.slice(1)));
  paint();
}

// Fill a sheet with what a model writes.
async function fill(sheet, r, strength) {
  for (const written = []; written.length < WRITTEN && written.at(-1) !== END; byId(sheet).textContent = decode(written))
    written.push(await nextToken([...ids, ...written], r, strength));
  byId(sheet).classList.remove("pale");
}

const timers = new Map();
function later(action, milliseconds) {
  clearTimeout(timers.get(action));
  timers.set(action, setTimeout(action, milliseconds));
}

function typed() {
  turn++;
  for (const sheet of ["base-writes", "lora-writes"]) byId(sheet).textContent = "";
  later(read, ids.length > 40 ? 250 : 30);
  later(remember, 400);
}

function write(text) {
  byId("text").value = text;
  byId("text").scrollTop = byId("text").scrollHeight; // the end is what counts
  typed();
}

function start() {
  model = modelFrom(bytesOf(byId("weights").textContent.replace(/\n/g, "")));
  controls = { t: "text", r: "rank", s: "strength" };
  byId("text").addEventListener("input", typed);
  for (const slider of ["rank", "strength"])
    byId(slider).addEventListener("input", () => {
      later(update, 0);
      later(remember, 400);
    });
  [...byId("examples").children].forEach((button, i) => button.addEventListener("click", () => {
    [byId("rank").value, byId("strength").value] = TRAINED;
    write(DATA.examples[i].text);
  }));
  addEventListener("hashchange", restore);
  restore();
  read();
  document.body.dataset.ready = performance.now();
}

requestAnimationFrame(() => setTimeout(start)); // the page is painted first
