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
// product of a query and a key then depends on how far apart they stand. start: the position of the first row.
function rotate(x, start) {
  const size = DATA.config.head_dim, half = size / 2;
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(DATA.config.rope_theta ** ((-2 * i) / size));
    x.forEach((row, t) => {
      const cos = Math.cos((start + t) * frequency), sin = Math.sin((start + t) * frequency);
      for (let at = i; at < row.length; at += size) {
        const a = row[at], b = row[at + half];
        row[at] = a * cos - b * sin;
        row[at + half] = b * cos + a * sin;
      }
    });
  }
}

// Attention: each token takes a mean of the values of the tokens up to it, weighted by how well its query fits their keys.
// The queries are those of the last tokens.
function attention(q, k, v) {
  const { num_attention_heads: heads, num_key_value_heads: groups, head_dim: size } = DATA.config;
  const y = q.map((row) => new Float32Array(row.length)), start = k.length - q.length;
  for (let head = 0; head < heads; head++) {
    const group = Math.floor((head * groups) / heads); // two query heads share one key and value head
    q.forEach((row, t) => {
      const query = rowOf(row, head, size), out = rowOf(y[t], head, size);
      const scores = k.slice(0, start + t + 1).map((key) => dot(query, rowOf(key, group, size)) / Math.sqrt(size));
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
// cache: each layer's keys and values of the tokens before these, so that none is read twice; those of these are added.
const emptyCache = () => model.layers.map(() => [[], []]);
function logits(ids, r, strength, count = 1, cache = emptyCache()) {
  const x = ids.map((id) => model.embedding[id].slice());
  const add = (y) => y.forEach((row, t) => addTo(x[t], row));
  model.layers.forEach((layer, i) => {
    const a = normalized(x, layer.attentionNorm), [keys, values] = cache[i];
    const [q, k, v] = [layer.q, layer.k, layer.v].map((map) => adapted(a, map, r, strength));
    for (const turned of [q, k]) rotate(turned, keys.length);
    keys.push(...k);
    values.push(...v);
    add(adapted(attention(q, keys, values), layer.o, r, strength));
    const b = normalized(x, layer.mlpNorm);
    const [gate, up] = [layer.gate, layer.up].map((map) => adapted(b, map, r, strength));
    const inner = gate.map((row, t) => row.map((value, i) => (value / (1 + Math.exp(-value))) * up[t][i])); // SwiGLU
    add(adapted(inner, layer.down, r, strength));
  });
  return linear(normalized(x.slice(-count), model.norm), model.embedding); // the head is the embedding, read the other way
}

// 4. The page.

const TRAINED = [DATA.config.rank, 1]; // r and λ
const ROWS = byId("next").tBodies[0].rows.length - 1; // the last is for all other tokens
const buttons = document.querySelectorAll("#examples button"), sheets = document.querySelectorAll(".sheets p");

let model; // once its weights are read
let ids = []; // the text's tokens
let base, full, now; // three readings of them: by the base, with the whole adapter, with the sliders' part of it
let likely, rows; // tokens: which base and adapter expect, and which the table has
let rests; // token → the letters that complete it to a word, once they are known
let widest; // the probability whose bar is as wide as its cell: a half, or the largest
let isAsking = true; // until the reader has guessed, or begun to play
let turn = 0; // counts the changes of text and sliders
const best = ({ p }) => p.indexOf(Math.max(...p));
const percent = (p) => `${show(100 * p, 1)} %`;
const count = (n, what) => `${show(n)} ${what}${n === 1 ? "" : "s"}`;
const isLetters = Array.from(bytesOfToken, (_, token) => /^\p{L}+$/u.test(decode([token])));

// A reading goes on with these tokens. It has r and λ, the cache, and the probabilities p of the next token.
function extended({ r, strength, cache }, tokens) {
  const own = cache.map((layer) => layer.map((rows) => [...rows])); // for the reading may go on in other ways, too
  return { r, strength, cache: own, p: softmax(logits(tokens, r, strength, 1, own)[0]) };
}

const reading = (r, strength) =>
  extended({ r, strength, cache: emptyCache() }, [END, ...ids.slice(1 - DATA.config.context)]);

// A token as it is read: without the space before it, … if it goes on with a word, ↵ for a new line, ␣ for other spaces.
function shown(token) {
  if (token === END) return "end of text";
  const text = decode([token]);
  if (text.includes("\ufffd")) return `byte ${bytesOfToken[token].map((byte) => byte.toString(16)).join(" ")}`;
  const isRest = /^\p{L}/u.test(text) && /\p{L}$/u.test(byId("text").value);
  return (isRest ? "…" : "") + text.replace(/^ (?=[^ ])/, "").replace(/ {4,}/g, (run) => `␣×${run.length}`)
    .replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥") + (rests.get(token) ?? "");
}

// What is asked, or what is to be seen at this beginning.
const QUESTION = byId("look").textContent;
function caption() {
  const own = DATA.examples.findIndex((one) => one.text === byId("text").value);
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === own));
  byId("look").className = isAsking ? "answer" : "soft";
  byId("look").textContent = own < 0 ? "Move λ and r: when does another word lead?" : isAsking
    ? QUESTION : DATA.examples[own].look;
  byId("pick").textContent = isAsking ? "click your guess" : "pick one to go on";
}

// After the reader's guess. Whoever moves a slider or writes is free, too, without a verdict.
function answer(token) {
  const right = best(reading(TRAINED[0], DATA.half)), bold = document.createElement("b");
  free();
  bold.textContent = `${shown(right)}.`;
  byId("look").prepend(bold, token === right ? " Exactly. " : ` You said “${shown(token)}”. `);
  byId("look").className = "answer";
  glide(byId("strength"), DATA.half, () => later(update, 0));
}

function free() {
  if (!isAsking) return;
  isAsking = false;
  caption();
}

// After a change of the text.
function read() {
  const text = byId("text").value, room = DATA.config.context - 1;
  caption();
  ids = encode(text);
  byId("note").textContent = ids.length > room ? `reads the last ${room} of ${show(ids.length)} tokens`
    : ids.length ? `${count([...text].length, "character")}, ${count(ids.length, "token")}` : "empty: how a document begins";
  [base, full, rests] = [reading(0, 0), reading(...TRAINED), new Map()];
  const strongest = reading(TRAINED[0], Number(byId("strength").max)); // bars have its scale, so that those of the base stay
  widest = Math.max(0.5, ...[base, full, strongest].map((one) => one.p[best(one)]));
  const [first, second] = [base, full].map(({ p }) => [...p.keys()].sort((a, b) => p[b] - p[a]));
  likely = [...new Set(first.slice(0, ROWS).flatMap((token, i) => [token, second[i]]))].slice(0, ROWS); // in turns
  sheets[0].classList.add("pale"); // until it is written anew
  update();
}

// After a change of the text, of r or of λ.
function update() {
  const height = (token) => Math.max(base.p[token], full.p[token]);
  turn++;
  now = reading(Number(byId("rank").value), Number(byId("strength").value));
  rows = [...likely].sort((a, b) => height(b) - height(a)); // whatever the sliders say, so that rows stay in place
  if (!rows.includes(best(now))) rows[rows.indexOf(likely.at(-1))] = best(now);
  paint();
  sheets[1].classList.add("pale");
  later(writeOn, 100);
  if (!isAsking) later(remember, 400); // the address of a page with its question has no state: a link to it asks, too
}

// One row per token: a button that appends it, a bar and a number for each model.
function paint() {
  const models = [base, now];
  byId("rank-says").textContent = `${now.r} of ${TRAINED[0]}`;
  byId("strength-says").textContent = now.strength.toFixed(2);
  sheets[1].firstElementChild.textContent = now.r % TRAINED[0] ? "LoRA, cut: may break" : "with LoRA";
  widest = Math.max(widest, ...rows.flatMap((token) => models.map(({ p }) => p[token])));
  const lines = Array.from(byId("next").tBodies[0].rows, (line) => [...line.cells]);
  rows.forEach((token, i) => {
    const [{ firstElementChild: button }, bars, ...cells] = lines[i], text = decode([token]);
    button.textContent = shown(token);
    button.disabled = !text || text.includes("\ufffd"); // the end of the text, or part of a character
    button.onclick = () => isAsking ? answer(token) : write(byId("text").value + text + (rests.get(token) ?? "").replace("…", ""));
    models.forEach((model, k) => {
      bars.children[k].style.width = `${(100 * model.p[token]) / widest}%`;
      cells[k].textContent = percent(model.p[token]);
      cells[k].classList.toggle("leads", token === best(model));
    });
  });
  models.forEach(({ p }, k) => {
    lines[ROWS][k + 2].textContent = percent(1 - rows.reduce((total, token) => total + p[token], 0));
  });
}

// The page answers its reader before each pass. If text or sliders have changed meanwhile, the promise is never fulfilled,
// which ends the work that waits for it.
const pause = (began = turn) => new Promise((go) => setTimeout(() => turn === began && go()));

// What takes many passes: the rest of each word in the table, and the sheets.
async function writeOn() {
  for (const token of rows) if (!rests.has(token)) rests.set(token, await restOf(token));
  paint();
  for (const [i, model] of [base, now].entries()) if (sheets[i].matches(".pale")) await fill(sheets[i], model);
}

// The letters with which the model that expects a token more completes it to a word, … where it is not sure of them.
async function restOf(token) {
  const word = [token];
  let model = full.p[token] > base.p[token] ? full : base;
  while (word.length < DATA.config.longest && /\p{L}$/u.test(decode(word))) {
    await pause();
    model = extended(model, [word.at(-1)]);
    if (model.p.reduce((sum, p, i) => sum + isLetters[i] * p, 0) < 0.5) break;
    if (model.p[best(model)] < 0.5) return `${decode(word.slice(1))}…`;
    word.push(best(model));
  }
  return decode(word.slice(1));
}

const textEnd = () => byId("text").value.replace(/^.+(?=.{60}$)/su, "…");

// Show the text's end, and what a model writes after it: each time the token that it expects most.
async function fill(sheet, model) {
  const [, prompt, words] = sheet.children, written = [best(model)];
  while (written.length < DATA.config.written && written.at(-1) !== END) {
    await pause();
    model = extended(model, [written.at(-1)]);
    written.push(best(model));
  }
  prompt.textContent = textEnd();
  words.textContent = decode(written);
  sheet.classList.remove("pale");
}

const timers = new Map();
function later(action, milliseconds) {
  clearTimeout(timers.get(action));
  timers.set(action, setTimeout(action, milliseconds));
}

function typed() {
  turn++;
  isAsking = false;
  for (const sheet of sheets) { // what a model wrote after another text
    const [, prompt, words] = sheet.children;
    [prompt.textContent, words.textContent] = [textEnd(), " …"];
    sheet.classList.add("pale");
  }
  later(read, ids.length > 40 ? 250 : 30);
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
  for (const slider of ["rank", "strength"]) byId(slider).addEventListener("input", () => {
    free();
    later(update, 0);
  });
  buttons.forEach((button, i) => button.addEventListener("click", () => {
    [byId("rank").value, byId("strength").value] = TRAINED;
    write(DATA.examples[i].text);
  }));
  byId("view").hidden = location.protocol === "file:"; // which leads nobody else here
  byId("view").href = location.href;
  byId("view").addEventListener("click", copy);
  addEventListener("hashchange", restore);
  restore();
  read();
  document.body.dataset.ready = performance.now();
}

requestAnimationFrame(() => setTimeout(start)); // the page is painted first
