// The page that runs a bundle: it opens one, finds the face, scores it in any tier, and says what
// the score rests on. Everything happens here; after loading, nothing is asked of any server.
//
// docs/bundle.md is the contract that is read here, src/pliant/runtime the same in Python.

import * as ort from "./vendor/ort.wasm.min.mjs";

const VENDOR = new URL("./vendor/", import.meta.url).href;

/** Bad input, said in one sentence that a user is meant to read. */
export class Refused extends Error {}

function refuseUnless(holds, sentence) {
  if (!holds) throw new Refused(sentence);
}

// ---------------------------------------------------------------------------- the file

const MAX_BYTES = 512 * 2 ** 20;
const MAX_FILES = 256;
const META_FILES = ["bundle.json", "bundle.sha256", "signature.json"];
const FILE_NAME = /^[a-z0-9_]+(\/[a-z0-9_]+)?\.[a-z0-9]+$/;

/** The entries of a zip by name, as views into it. They must be stored and lie one behind the
 * other from the first byte on, so there is nothing to unpack, to hide or to overlap.
 * PKWARE APPNOTE 6.3.10: 4.3.7 (local header), 4.3.12 (directory), 4.3.16 (its end). */
export function readZip(buffer) {
  refuseUnless(buffer.byteLength <= MAX_BYTES, "This file has more than 512 MiB; no bundle has.");
  const view = new DataView(buffer);
  const files = new Map();
  try {
    readDirectory(view, files);
  } catch (problem) {
    if (!(problem instanceof RangeError)) throw problem;
    throw new Refused("This file is damaged: its directory is cut off.");
  }
  return files;
}

function readDirectory(view, files) {
  const damaged = "This is no bundle, or it is damaged: ";
  const end = view.byteLength - 22;
  refuseUnless(end >= 0 && view.getUint32(end, true) === 0x06054b50 && !view.getUint16(end + 20, true),
    `${damaged}it does not end as a bundle does.`);
  const number = view.getUint16(end + 10, true);
  const directory = view.getUint32(end + 16, true);
  refuseUnless(!view.getUint32(end + 4, true) && view.getUint16(end + 8, true) === number &&
    number > 0 && number <= MAX_FILES, `${damaged}it must hold 1 to ${MAX_FILES} files.`);
  refuseUnless(directory + view.getUint32(end + 12, true) === end,
    `${damaged}its directory is not where its end says.`);
  let [place, start] = [directory, 0];
  for (let i = 0; i < number; i++) {
    refuseUnless(view.getUint32(place, true) === 0x02014b50, `${damaged}its directory is broken.`);
    const entry = centralEntry(view, place);
    refuseUnless(!(entry.flags & ~0x800) && entry.method === 0 && entry.packed === entry.length,
      `${damaged}${entry.name} must be stored, not compressed or encrypted.`);
    refuseUnless(FILE_NAME.test(entry.name) && !files.has(entry.name),
      `${damaged}it cannot hold a file named ${entry.name.slice(0, 80)}.`);
    refuseUnless(entry.offset === start && sameLocally(view, entry),
      `${damaged}${entry.name} is described in two ways.`);
    const first = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
    start = first + entry.length;
    refuseUnless(start <= directory, `${damaged}${entry.name} is larger than the file.`);
    files.set(entry.name, new Uint8Array(view.buffer, first, entry.length));
    place = entry.next;
  }
  refuseUnless(start === directory && place === end, `${damaged}it holds bytes of no file.`);
}

function centralEntry(view, place) {
  const nameLength = view.getUint16(place + 28, true);
  const rest = view.getUint16(place + 30, true) + view.getUint16(place + 32, true);
  return {
    flags: view.getUint16(place + 8, true),
    method: view.getUint16(place + 10, true),
    packed: view.getUint32(place + 20, true),
    length: view.getUint32(place + 24, true),
    offset: view.getUint32(place + 42, true),
    name: text(view, place + 46, nameLength),
    next: place + 46 + nameLength + rest,
  };
}

function sameLocally(view, entry) {
  const { offset, name } = entry;
  return view.getUint32(offset, true) === 0x04034b50 &&
    view.getUint16(offset + 6, true) === entry.flags &&
    view.getUint16(offset + 8, true) === entry.method &&
    view.getUint32(offset + 18, true) === entry.packed &&
    view.getUint32(offset + 22, true) === entry.length &&
    text(view, offset + 30, view.getUint16(offset + 26, true)) === name;
}

function text(view, start, length) {
  let letters = "";
  for (let i = 0; i < length; i++) letters += String.fromCharCode(view.getUint8(start + i));
  return letters;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A bundle's contract, files and hash; every hash is checked before anything else is parsed. */
export async function openBundle(buffer) {
  refuseUnless(globalThis.crypto?.subtle, "This page must be opened over https or on localhost.");
  const files = readZip(buffer);
  for (const name of ["bundle.json", "bundle.sha256"]) {
    refuseUnless(files.has(name), `This is no bundle: it has no ${name}.`);
  }
  const promised = new TextDecoder().decode(files.get("bundle.sha256")).trim();
  const hash = await sha256(files.get("bundle.json"));
  refuseUnless(hash === promised,
    "This bundle was changed or damaged: bundle.json does not have the SHA-256 it came with.");
  const contract = readContract(parseJson(files.get("bundle.json")), files);
  for (const [name, bytes] of files) {
    if (META_FILES.includes(name)) continue;
    refuseUnless((await sha256(bytes)) === contract.files[name],
      `This bundle was changed or damaged: ${name} does not have the SHA-256 in bundle.json.`);
  }
  return { contract, files, hash };
}

function parseJson(bytes) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new Refused("This bundle is damaged: bundle.json is no JSON.");
  }
}

// ---------------------------------------------------------------------------- the contract

const FORMAT = 1;
const isNumber = (value, least, most) =>
  typeof value === "number" && Number.isFinite(value) && value >= least && value <= most;
const isWhole = (value, least, most) => Number.isInteger(value) && isNumber(value, least, most);
const isText = (value, most = 4096) => typeof value === "string" && value.length <= most;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isNumbers = (value, count, least, most) =>
  Array.isArray(value) && value.length === count && value.every((v) => isNumber(v, least, most));

/** bundle.json, checked field by field; an unknown format is refused before anything is read. */
function readContract(record, files) {
  const check = (holds, field) =>
    refuseUnless(holds, `This bundle is damaged: ${field} in bundle.json is missing or not allowed.`);
  check(isObject(record), "everything");
  refuseUnless(record.format === FORMAT, `This bundle is of format ${String(record.format).slice(0, 40)}, ` +
    `this page reads ${FORMAT}; use the pliant that wrote it.`);
  refuseUnless(record.target === "onnx",
    `This bundle is for ${String(record.target).slice(0, 40)}; a browser runs those exported with --target onnx.`);
  for (const name of ["name", "pliant", "created", "licence", "input_name", "output_name"]) {
    check(isText(record[name]), name);
  }
  check(["pad", "classify"].includes(record.task), "task");
  check(Array.isArray(record.classes) && record.classes.length >= 2 &&
    record.classes.every((name) => isText(name, 200)), "classes");
  check(record.task !== "pad" || record.classes.join() === "attack,bona_fide", "classes");
  check(isNumber(record.tolerance, 0, 1), "tolerance");
  check(isObject(record.provenance), "provenance");
  checkFiles(record, files, check);
  checkPreprocessing(record.preprocessing, check);
  checkTiers(record, check);
  checkSelection(record, files.get(record.model_file), check);
  checkGolden(record, check);
  return record;
}

function checkFiles(record, files, check) {
  check(isObject(record.files), "files");
  for (const name of files.keys()) {
    check(META_FILES.includes(name) || Object.hasOwn(record.files, name), `the hash of ${name}`);
  }
  for (const name of Object.keys(record.files)) check(files.has(name), `the file ${name.slice(0, 80)}`);
  check(Object.hasOwn(record.files, record.model_file), "model_file");
}

function checkPreprocessing(given, check) {
  check(isObject(given), "preprocessing");
  check(isWhole(given.size, 16, 1024), "size");
  check(isNumber(given.crop_scale, 0.5, 8), "crop_scale");
  check(Object.hasOwn(BORDERS, given.border), "border");
  check(given.colour === "rgb", "colour");
  check(isNumbers(given.mean, 3, -1000, 1000), "mean");
  check(isNumbers(given.std, 3, 1e-3, 1000), "std");
}

function checkTiers(record, check) {
  const { tiers } = record;
  check(Array.isArray(tiers) && tiers.length >= 1 && tiers.length <= 64, "tiers");
  for (const tier of tiers) {
    check(isObject(tier) && /^[a-z][a-z0-9_-]{0,63}$/.test(tier.name), "a tier's name");
    check(isText(tier.configuration, 256), "a tier's configuration");
    for (const cost of ["macs", "params", "size_bytes"]) check(isWhole(tier[cost], 0, 1e15), cost);
    check(tier.threshold === null || isNumber(tier.threshold?.value, 0, 1 + 1e-9), "a threshold");
    check(tier.dev === null || isObject(tier.dev), "dev");
  }
  const names = tiers.map((tier) => tier.name);
  check(new Set(names).size === names.length, "the tiers' names");
  check(names.includes(record.default_tier), "default_tier");
}

function checkSelection(record, model, check) {
  const { selection, tiers } = record;
  check(isObject(selection), "selection");
  check(isWhole(selection.num_blocks, 0, 256) && /^[A-Z]{1,26}$/.test(selection.letters), "selection");
  check(new Set(selection.letters).size === selection.letters.length, "letters");
  check(String(selection.tiers) === tiers.map((tier) => tier.name).join(), "the selection's tiers");
  const length = selection.num_blocks * (selection.letters.length - 1) + 1 + tiers.length;
  check(selection.length === length, "the selection's length");
  check(isWhole(selection.offset, 0, model.length - length), "the selection's offset");
  const there = model.subarray(selection.offset, selection.offset + length);
  check(there.every((byte) => byte <= 1), "the selection's offset"); // booleans, if it is the place
  for (const tier of tiers) selectionBytes(selection, tier.configuration, tier.name);
}

function checkGolden(record, check) {
  check(Array.isArray(record.golden) && record.golden.length >= 1 && record.golden.length <= 64, "golden");
  for (const golden of record.golden) {
    check(isObject(golden) && isObject(golden.probabilities), "golden");
    check(Object.hasOwn(record.files, golden.file), "a golden image");
    check(golden.box === null || isNumbers(golden.box, 4, -1e5, 1e5), "a golden image's box");
    for (const tier of record.tiers) {
      check(isNumbers(golden.probabilities[tier.name], record.classes.length, 0, 1), "probabilities");
    }
  }
}

/** The bytes that choose a configuration: per block one per letter after the first, then one per
 * row of batch-norm statistics, of which exactly one is 1 (0: those that training kept). */
export function selectionBytes(selection, configuration, tierName) {
  const { num_blocks: numBlocks, letters, tiers } = selection;
  if (!numBlocks && tierName !== null) configuration = ""; // 8 bits: the row alone says what runs
  refuseUnless(configuration.length === numBlocks && [...configuration].every((one) => letters.includes(one)),
    `The configuration ${configuration.slice(0, 80)} does not fit this model.`);
  const flags = [...configuration].flatMap((letter) => [...letters.slice(1)].map((one) => +(letter === one)));
  const row = tierName === null ? 0 : 1 + tiers.indexOf(tierName);
  return Uint8Array.from([...flags, ...Array.from({ length: 1 + tiers.length }, (_, i) => +(i === row))]);
}

// ---------------------------------------------------------------------------- the input

/** The pixel that stands for index i of a row of n, by border; -1: black. */
const BORDERS = {
  replicate: (i, n) => Math.min(Math.max(i, 0), n - 1),
  black: (i, n) => (i < 0 || i >= n ? -1 : i),
  reflect101: (i, n) => {
    if (n === 1) return 0;
    const period = 2 * (n - 1);
    const place = ((i % period) + period) % period;
    return place < n ? place : period - place;
  },
};

/** The square that is cut: around the box, or the largest centred one. Pixel edges. */
export function squareAround(width, height, box, scale) {
  if (!box) {
    const side = Math.min(width, height);
    return { left: (width - side) / 2, top: (height - side) / 2, side };
  }
  const [x, y, boxWidth, boxHeight] = box;
  const side = scale * Math.max(boxWidth, boxHeight);
  return { left: x + boxWidth / 2 - side / 2, top: y + boxHeight / 2 - side / 2, side };
}

/** The square around the box, RGB bytes (size, size, 3); equal to runtime/crop.py bit by bit:
 * every pixel is the mean of k x k bilinear samples, each rounded to whole grey levels. Like
 * OpenCV's warpAffine it places samples on a grid of 1/32 pixel, in fixed point. */
export function cropSquare(image, box, { crop_scale: scale, size, border }) {
  const { left, top, side } = squareAround(image.width, image.height, box, scale);
  const samples = Math.max(1, Math.ceil(side / size - 1e-6));
  const step = side / (size * samples);
  const first = 0.5 * step - 0.5;
  const columns = taps(size * samples, (i) => roundHalfEven(step * i * 1024) +
    roundHalfEven((left + first) * 1024), image.width, BORDERS[border], 4);
  const rows = taps(size * samples, (i) => roundHalfEven((step * i + (top + first)) * 1024),
    image.height, BORDERS[border], 4 * image.width);
  return averaged(image.data, columns, rows, size, samples);
}

function roundHalfEven(value) {
  const low = Math.floor(value);
  const half = value - low;
  return half < 0.5 || (half === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** For each sample along one axis: where its two neighbours lie in the data, and their weights in
 * 32ths; a black pixel outside has none. */
function taps(count, place1024, length, border, stride) {
  const [near, far, nearWeight, farWeight] = Array.from({ length: 4 }, () => new Int32Array(count));
  for (let i = 0; i < count; i++) {
    const place = Math.floor((place1024(i) + 16) / 32);
    const pixel = Math.floor(place / 32);
    const [first, second] = [border(pixel, length), border(pixel + 1, length)];
    near[i] = Math.max(first, 0) * stride;
    far[i] = Math.max(second, 0) * stride;
    farWeight[i] = second < 0 ? 0 : place - 32 * pixel;
    nearWeight[i] = first < 0 ? 0 : 32 - (place - 32 * pixel);
  }
  return { near, far, nearWeight, farWeight };
}

function averaged(data, columns, rows, size, samples) {
  const crop = new Uint8Array(size * size * 3);
  const share = Math.fround(1 / (samples * samples));
  for (let y = 0, out = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      for (let channel = 0; channel < 3; channel++, out++) {
        const sum = sampleSum(data, columns, rows, x * samples, y * samples, samples, channel);
        if (samples === 1) crop[out] = sum;
        else if (samples === 2) crop[out] = (sum + 2) >> 2;
        else crop[out] = roundHalfEven(Math.fround(sum * share));
      }
    }
  }
  return crop;
}

function sampleSum(data, columns, rows, firstColumn, firstRow, samples, channel) {
  let sum = 0;
  for (let j = firstRow; j < firstRow + samples; j++) {
    const above = rows.near[j] + channel;
    const below = rows.far[j] + channel;
    for (let i = firstColumn; i < firstColumn + samples; i++) {
      const [before, after] = [columns.near[i], columns.far[i]];
      const [left, right] = [columns.nearWeight[i], columns.farWeight[i]];
      const upper = data[above + before] * left + data[above + after] * right;
      const lower = data[below + before] * left + data[below + after] * right;
      sum += (upper * rows.nearWeight[j] + lower * rows.farWeight[j] + 512) >> 10;
    }
  }
  return sum;
}

/** (x / 255 - mean) / std, float32 (3, size, size). */
export function toInput(crop, { size, mean, std }) {
  const area = size * size;
  const input = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < area; i++) {
      const share = Math.fround(crop[3 * i + channel] / 255);
      input[channel * area + i] = Math.fround(share - Math.fround(mean[channel])) / Math.fround(std[channel]);
    }
  }
  return input;
}

const MAX_MEGAPIXELS = 50;
const MAX_GOLDEN_PIXELS = 4e6; // a golden image is drawn, not photographed
const MAX_GOLDEN_SQUARE_PX = 4096;

/** A golden image of a bundle with its pixels; nothing is decoded before its size is known. */
async function decodeGolden(golden, { contract, files }) {
  const bytes = files.get(golden.file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isPng = bytes.length > 24 && view.getUint32(0) === 0x89504e47 && view.getUint32(12) === 0x49484452;
  const [width, height] = isPng ? [view.getUint32(16), view.getUint32(20)] : [0, 0];
  const { side } = squareAround(width, height, golden.box, contract.preprocessing.crop_scale);
  refuseUnless(isPng && width * height <= MAX_GOLDEN_PIXELS && side <= MAX_GOLDEN_SQUARE_PX,
    `This bundle is damaged: ${golden.file} is no PNG image, or it is too large.`);
  return { ...golden, image: await decodeImage(new Blob([bytes], { type: "image/png" })) };
}

/** An image file's pixels as they are stored: no colour management, no premultiplied alpha. */
export async function decodeImage(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Refused("This file is no image that the browser can read.");
  }
  refuseUnless(bitmap.width * bitmap.height <= MAX_MEGAPIXELS * 1e6,
    `This photo has more than ${MAX_MEGAPIXELS} megapixels; shrink it first.`);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// ---------------------------------------------------------------------------- the model

ort.env.wasm.wasmPaths = VENDOR;
ort.env.wasm.proxy = true; // sessions are made and run in a worker, so the page stays responsive
ort.env.wasm.numThreads = globalThis.crossOriginIsolated
  ? Math.min(4, Math.max(1, Math.floor(navigator.hardwareConcurrency / 2)))
  : 1;
ort.env.logLevel = "error";

/** Every tier of one bundle; exactly one of them is in use. */
export class Model {
  constructor({ contract, files }) {
    this.contract = contract;
    this.bytes = files.get(contract.model_file).slice();
    this.current = null;
    this.queue = Promise.resolve();
  }

  tier(name) {
    return this.contract.tiers.find((tier) => tier.name === name) ?? null;
  }

  /** One thing at a time: a switch waits for the image that is being scored, and the reverse. */
  inTurn(work) {
    const done = this.queue.then(work);
    this.queue = done.catch(() => {});
    return done;
  }

  /** From now on run a tier (or, without a name, a configuration); says how long that took. */
  use(tierName, configuration = this.tier(tierName).configuration) {
    const start = performance.now();
    return this.inTurn(async () => {
      const made = await this.create(tierName, configuration);
      await this.current?.session.release();
      this.current = made;
      return performance.now() - start;
    });
  }

  /** Gives its memory back when what was begun is done. */
  release() {
    return this.inTurn(async () => this.current?.session.release());
  }

  /** Writes the selection's bytes, makes a session of the whole, and runs it once. */
  async create(tierName, configuration) {
    const { selection } = this.contract;
    this.bytes.set(selectionBytes(selection, configuration, tierName), selection.offset);
    let session;
    try {
      session = await ort.InferenceSession.create(this.bytes.slice(), {
        executionProviders: ["wasm"],
        graphOptimizationLevel: "all",
      });
    } catch (problem) {
      throw new Refused(`This bundle's model cannot run here: ${String(problem.message).slice(0, 120)}`);
    }
    const made = { session, tier: this.tier(tierName), configuration };
    await this.run(new Float32Array(3 * this.contract.preprocessing.size ** 2), made);
    return made;
  }

  /** The probability of each class. */
  async run(input, { session }) {
    const { input_name: from, output_name: to, preprocessing: { size } } = this.contract;
    const output = await session.run({ [from]: new ort.Tensor("float32", input, [1, 3, size, size]) });
    return softmax(output[to].data);
  }

  /** The probabilities of an image, what gave them, and the milliseconds of crop and network. */
  score(image, box) {
    return this.inTurn(async () => {
      const made = this.current;
      const start = performance.now();
      const crop = cropSquare(image, box, this.contract.preprocessing);
      const cut = performance.now();
      const probabilities = await this.run(toInput(crop, this.contract.preprocessing), made);
      return { probabilities, crop, made, ms: { crop: cut - start, model: performance.now() - cut } };
    });
  }
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power);
  return powers.map((power) => power / sum);
}

const BROWSER_TOLERANCE = 1e-3; // contract.tolerance is for the CPU's kernels; WASM's may differ more

/** The largest difference of a probability from the promised ones, over all tiers and images. */
export async function selfTest(model, goldens, progress = () => {}) {
  let worst = 0;
  const { length } = model.contract.tiers;
  for (const [i, tier] of model.contract.tiers.entries()) {
    progress(`self-test, tier ${i + 1} of ${length}`, i / length);
    await model.use(tier.name);
    for (const golden of goldens) {
      const { probabilities } = await model.score(golden.image, golden.box);
      const promised = golden.probabilities[tier.name];
      const difference = Math.max(...promised.map((value, k) => Math.abs(value - probabilities[k])));
      worst = Math.max(worst, Number.isFinite(difference) ? difference : Infinity);
    }
    refuseUnless(worst <= Math.max(model.contract.tolerance, BROWSER_TOLERANCE),
      `The self-test failed in tier ${tier.name}: scores of the bundle's own images differ by ` +
      `${worst.toPrecision(2)}; do not use its verdicts on this device.`);
  }
  return worst;
}

// ---------------------------------------------------------------------------- the face

/** BlazeFace's square becomes a box of YuNet's rule, forehead to chin: shift of the centre, width and
 * height in the square's sides; medians of N = 2,808 faces of NUAA (measure_boxes.py). */
export const BLAZE_CENTRE = [-0.001, -0.084];
export const BLAZE_SIZE = [0.655, 0.867];
const DETECTION_SIDE_PX = 256; // what BlazeFace takes
const MIN_CONFIDENCE = 0.5;
const MIN_SIDE_PX = 48;
const SECOND_FACE_SHARE = 0.5;

/** Finds faces with BlazeFace as @vladmandic/human ships and runs it. */
export class FaceFinder {
  static async load() {
    const { default: Human } = await import("./vendor/human.esm.js");
    const off = { enabled: false };
    const human = new Human({
      backend: "wasm",
      wasmPath: VENDOR,
      modelBasePath: VENDOR,
      cacheModels: false,
      cacheSensitivity: 0,
      debug: false,
      warmup: "none",
      filter: off, gesture: off, body: off, hand: off, object: off, segmentation: off,
      face: {
        enabled: true,
        detector: {
          modelPath: "blazeface.json", rotation: false, maxDetected: 5, skipFrames: 0, skipTime: 0,
          minConfidence: MIN_CONFIDENCE,
        },
        mesh: off, attention: off, iris: off, description: off, emotion: off, antispoof: off, liveness: off,
      },
    });
    // its threads would need scripts from blobs, which the page's policy forbids
    human.tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
    await human.load();
    const finder = new FaceFinder(human);
    await finder.find(new OffscreenCanvas(64, 64)); // compiles the kernels now, not at the first face
    return finder;
  }

  constructor(human) {
    this.human = human;
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = DETECTION_SIDE_PX;
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.context.imageSmoothingQuality = "high";
  }

  /** Boxes (x, y, width, height) in the source's pixels, largest first. */
  async find(source, convert = fromBlaze) {
    const longer = Math.max(source.width, source.height);
    const scale = DETECTION_SIDE_PX / longer;
    this.context.fillRect(0, 0, DETECTION_SIDE_PX, DETECTION_SIDE_PX);
    this.context.drawImage(source, 0, 0, source.width * scale, source.height * scale);
    const { face: faces } = await this.human.detect(this.canvas);
    const boxes = faces.map(({ boxRaw }) => convert(boxRaw.map((share) => share * longer)));
    return withoutParts(boxes.sort((one, other) => longerSide(other) - longerSide(one)));
  }
}

const longerSide = ([, , width, height]) => Math.max(width, height);

function fromBlaze([x, y, width, height]) {
  const side = Math.max(width, height);
  const [boxWidth, boxHeight] = BLAZE_SIZE.map((share) => share * side);
  const centreX = x + width / 2 + BLAZE_CENTRE[0] * side;
  const centreY = y + height / 2 + BLAZE_CENTRE[1] * side;
  return [centreX - boxWidth / 2, centreY - boxHeight / 2, boxWidth, boxHeight];
}

/** Drops hits whose centre lies inside a larger face. */
function withoutParts(boxes) {
  const kept = [];
  for (const box of boxes) {
    const [x, y] = [box[0] + box[2] / 2, box[1] + box[3] / 2];
    const inside = kept.some((k) => x >= k[0] && x <= k[0] + k[2] && y >= k[1] && y <= k[1] + k[3]);
    if (!inside) kept.push(box);
  }
  return kept;
}

/** The one face to judge, or the reason why there is none. */
export function chooseFace(boxes) {
  if (!boxes.length) return { reason: "no face found" };
  const [largest, second] = boxes;
  if (second && longerSide(second) >= SECOND_FACE_SHARE * longerSide(largest)) {
    return { reason: "several faces found" };
  }
  if (longerSide(largest) < MIN_SIDE_PX) return { box: largest, reason: "the face is too small" };
  return { box: largest };
}

// ---------------------------------------------------------------------------- the quality gate

/** Beyond these nobody could judge the face; src/pliant/runtime/quality.py says why. */
const LIMITS = { outside: 0.2, dark: 0.8, bright: 0.6, sharpness: 0.05 };
const MIDDLE = 0.75; // side of what is measured, in multiples of the box's longer side
const DARK_LEVEL = 24;
const BRIGHT_LEVEL = 250;
const GRID = 32; // cells along a side on which sharpness is measured
const ROUNDING = 40; // beside the variance: rounding to whole levels is no detail

/** Why this face cannot be judged, the worst reason first; null: nothing speaks against it. */
export function poorQuality(measures) {
  if (measures.outside > LIMITS.outside) return "the face is cut off at the edge of the image";
  if (measures.dark > LIMITS.dark) return "the face is too dark";
  if (measures.bright > LIMITS.bright) return "the face is overexposed";
  if (measures.sharpness < LIMITS.sharpness) return "the face is blurred";
  return null;
}

/** Four numbers on the middle of the face, from the crop that the network sees. */
export function qualityOf(crop, box, image, cropScale) {
  const luma = faceLuma(crop, cropScale);
  const share = (keep) => luma.filter(keep).length / luma.length;
  return {
    outside: outsideShare(box, image),
    dark: share((y) => y < DARK_LEVEL),
    bright: share((y) => y >= BRIGHT_LEVEL),
    sharpness: sharpness(luma),
  };
}

/** Share of the box's area outside the image. */
function outsideShare([x, y, width, height], image) {
  const across = Math.max(0, Math.min(x + width, image.width) - Math.max(x, 0));
  const down = Math.max(0, Math.min(y + height, image.height) - Math.max(y, 0));
  return Math.max(0, 1 - (across / width) * (down / height));
}

/** Luma of the middle of the face, row by row, of as many rows as columns. */
function faceLuma(crop, cropScale) {
  const size = Math.sqrt(crop.length / 3);
  const n = Math.min(size, Math.max(8, Math.floor(MIDDLE * size / cropScale + 0.5)));
  const first = Math.floor((size - n) / 2);
  return Uint8Array.from({ length: n * n }, (_, i) => {
    const place = 3 * ((first + Math.floor(i / n)) * size + first + (i % n));
    return (77 * crop[place] + 150 * crop[place + 1] + 29 * crop[place + 2]) >> 8;
  });
}

/** Fine detail against contrast: mean L^2 / (variance + 40), L = 4 Y - its neighbours. */
function sharpness(luma) {
  const cells = onGrid(luma);
  const n = Math.sqrt(cells.length);
  let energy = 0;
  for (let row = 1; row < n - 1; row++) {
    for (let i = row * n + 1; i < row * n + n - 1; i++) {
      energy += (4 * cells[i] - cells[i - n] - cells[i + n] - cells[i - 1] - cells[i + 1]) ** 2;
    }
  }
  const mean = cells.reduce((sum, y) => sum + y, 0) / cells.length;
  const variance = cells.reduce((sum, y) => sum + (y - mean) ** 2, 0) / cells.length;
  return energy / (n - 2) ** 2 / (variance + ROUNDING);
}

/** At most 32 x 32 cells, each the mean of what lies in it, like OpenCV's INTER_AREA. */
function onGrid(luma) {
  const n = Math.sqrt(luma.length);
  return n > GRID ? shrinkRows(shrinkRows(Float64Array.from(luma), n, n), n, GRID) : luma;
}

/** (n, columns) -> (columns, 32): every column's means, written as a row; twice is both ways. */
function shrinkRows(values, n, columns) {
  const cell = n / GRID;
  const shrunk = new Float64Array(columns * GRID);
  for (let i = 0; i < GRID; i++) {
    for (let k = Math.floor(i * cell); k < Math.min(n, Math.ceil((i + 1) * cell)); k++) {
      const weight = (Math.min(k + 1, (i + 1) * cell) - Math.max(k, i * cell)) / cell;
      for (let j = 0; j < columns; j++) shrunk[j * GRID + i] += weight * values[k * columns + j];
    }
  }
  return shrunk;
}

// ---------------------------------------------------------------------------- the verdict

/** What is said about one image: the verdict, its reason, the score and all that it rests on. */
export async function examine(model, finder, picture) {
  const { image, canvas, box: given } = picture;
  const start = performance.now();
  let face = { box: given ?? null };
  let boxes = [];
  if (!given && model.contract.task === "pad") {
    boxes = finder ? await finder.find(canvas) : [];
    face = finder ? chooseFace(boxes) : { reason: "the face finder could not be loaded; draw the box by hand" };
  }
  const ms = { face: given ? 0 : performance.now() - start };
  const seen = { boxes, box: face.box ?? null, ms, made: model.current, score: null, crop: null };
  if (face.reason) return { ...seen, verdict: "undecided", reason: face.reason };
  const scored = await model.score(image, face.box);
  Object.assign(ms, scored.ms);
  return { ...seen, ...scored, ms, ...verdictOf(model.contract, scored, poorFace(model.contract, scored, face.box, image)) };
}

/** Why the quality gate stops this face; null: it does not, or there is none to measure. */
function poorFace({ task, preprocessing }, { crop }, box, image) {
  return task === "pad" && box ? poorQuality(qualityOf(crop, box, image, preprocessing.crop_scale)) : null;
}

function verdictOf({ task, classes }, { probabilities, made }, poor) {
  if (task !== "pad") {
    const best = probabilities.indexOf(Math.max(...probabilities));
    return { verdict: "class", name: classes[best], score: probabilities[best] };
  }
  const score = probabilities[1];
  if (!Number.isFinite(score)) return { verdict: "undecided", reason: "the model gave no finite score", score: null };
  if (poor) return { verdict: "undecided", reason: poor, score };
  if (!made.tier?.threshold) {
    const reason = made.tier ? `no threshold is stored for ${made.tier.name}` : "a configuration of your own has no threshold";
    return { verdict: "undecided", reason, score };
  }
  return { verdict: score >= made.tier.threshold.value ? "bona_fide" : "attack", score };
}

// ---------------------------------------------------------------------------- find my tier

const WARM_UP = 3; // untimed calls at the start of each burst
const ROUNDS = 3; // the tiers take turns, so a busy second hits all
const RUNS_A_ROUND = 7;
const MAX_BURST_MS = 1000;
const PHOTO = { width: 640, height: 480, face: [220, 100, 200, 240] };

/** Median milliseconds of each tier on this device, from the face's box to the score; finding the face is the same in all. */
export async function measureTiers(model, progress = () => {}) {
  const image = noise(PHOTO.width, PHOTO.height);
  const box = model.contract.task === "pad" ? PHOTO.face : null;
  const { tiers } = model.contract;
  const times = new Map(tiers.map(({ name }) => [name, []]));
  const before = model.current;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const { name } of tiers) {
        progress(`measuring ${name}, round ${round + 1} of ${ROUNDS}`);
        await model.use(name);
        times.get(name).push(...await burst(() => model.score(image, box)));
      }
    }
  } finally {
    await model.use(before.tier?.name ?? null, before.configuration);
  }
  return Object.fromEntries([...times].map(([name, all]) => [name, median(all)]));
}

/** Milliseconds of each timed call; a slow device gets fewer. */
async function burst(call) {
  const times = [];
  const begin = performance.now();
  for (let i = 0; i < WARM_UP + RUNS_A_ROUND; i++) {
    const start = performance.now();
    await call();
    const late = performance.now() - begin > MAX_BURST_MS;
    if (i >= WARM_UP || late) times.push(performance.now() - start);
    if (late) break;
  }
  return times;
}

function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function noise(width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  let state = 1;
  for (let i = 0; i < data.length; i++) data[i] = (state = (state * 48271) % 2147483647) & 255;
  return new ImageData(data, width, height);
}

/** The tier of the highest dev quality (where not all have one: the costliest) within the budget;
 * null: none fits. */
export function bestWithin(contract, ms, budget) {
  const quality = (tier) => tier.dev?.auc ?? tier.dev?.accuracy;
  const known = contract.tiers.every((tier) => Number.isFinite(quality(tier)));
  const worth = (tier) => (known ? quality(tier) : tier.macs);
  const fitting = contract.tiers.filter((tier) => ms[tier.name] <= budget);
  fitting.sort((one, other) => worth(other) - worth(one) || ms[one.name] - ms[other.name]);
  return fitting[0] ?? null;
}

function remembered(hash) {
  try {
    return JSON.parse(localStorage.getItem(`pliant ${hash}`)) ?? {};
  } catch {
    return {};
  }
}

function remember(hash, found) {
  try {
    localStorage.setItem(`pliant ${hash}`, JSON.stringify(found));
  } catch {
    // a browser that keeps nothing measures again next time
  }
}

// ---------------------------------------------------------------------------- the page

const $ = (id) => document.getElementById(id);
const HISTORY = 120; // scores in the trace
const LEAST_SHOWN = 24; // places that the trace is wide at first
const FRAME_GAP_MS = 60; // between two frames that are scored
const SAY_EVERY_MS = 2500; // how often a screen reader hears a new verdict
const WORDS = { bona_fide: "Bona fide", attack: "Attack", undecided: "Undecided" };
const BRANCHES = { L: "light", H: "heavy", B: "both" };
const SYNTHETIC_ALONE = "This model has seen synthetic faces alone: it is no judge of real ones.";

/** What budgets count, in a few words and in more. */
const SPANS = { pad: "face to score", classify: "picture to score" };
const SPAN_WORDS = {
  pad: "from the face’s box to its score: crop and network. Finding the face comes on top, the same in every tier.",
  classify: "from the picture to its score: crop and network.",
};
const BUSY = { measuring: "until the tiers are measured", opening: "until the bundle is open" };

/** What the page holds; tests read it. */
export const page = {
  bundle: null, model: null, finder: null, goldens: [], picture: null, reading: null,
  history: [], stream: null, films: 0, handBox: null, switchMs: null, worst: null, tierMs: {},
  turn: Promise.resolve(), // the last of the work in turn
  busy: null, // "measuring" or "opening": the long work whose turn it is
  asked: null, // the switch that was asked for last, while it waits
};

/** One thing at a time, in the order it was asked for: a picture, a switch, a measurement, another
 * bundle. So none finds the model in a tier, or the page with a bundle, that it did not begin with.
 * Work in turn must not wait for other work in turn. */
function inTurn(work) {
  const done = page.turn.then(work);
  page.turn = done.catch(() => {});
  return done;
}

async function busyWith(what, work) {
  page.busy = what;
  try {
    return await work();
  } finally {
    page.busy = null;
    $("waiting").hidden = true;
  }
}

/** A picture in its turn; who has to wait is told for what. */
function pictureInTurn(work) {
  $("waiting").hidden = !page.busy;
  $("waiting").textContent = `Waits ${BUSY[page.busy]}`;
  return inTurn(work);
}

function showProblem(problem) {
  if (!(problem instanceof Refused)) console.error(problem);
  $("problem").textContent = problem instanceof Refused ? problem.message : `Something went wrong: ${problem.message}`;
  $("problem").hidden = false;
}

/** Runs what a user asked for; what it refuses is shown in one sentence. */
async function attempt(work) {
  $("problem").hidden = true;
  try {
    return await work();
  } catch (problem) {
    showProblem(problem);
    return null;
  }
}

// ---- opening

async function openPage() {
  page.finding = FaceFinder.load().then((finder) => { page.finder = finder; }, (problem) => console.error(problem));
  const buffer = await fetchBundle();
  if (page.busy || page.bundle) return; // another was dropped meanwhile
  if (!buffer) return askForBundle();
  await attempt(() => adopt(buffer, "the bundle"));
}

async function fetchBundle() {
  try {
    const answer = await fetch(new URL("./bundle.pliant", import.meta.url));
    return answer.ok ? await answer.arrayBuffer() : null;
  } catch {
    return null;
  }
}

function askForBundle() {
  if (page.bundle) return;
  $("opening-title").textContent = "Open a bundle";
  $("progress").textContent = "Drop a .pliant file here, or choose one. It is read by this page alone.";
  $("progress-bar").hidden = true;
  $("choose-bundle").hidden = false;
}

/** Checks a bundle, tests it on its own images, and puts it on the bench; until then, and where it
 * is refused, the one before stays as it was. */
function adopt(file, name) {
  return inTurn(() => busyWith("opening", async () => {
    const focused = document.activeElement; // what is inert loses it
    showOpening(name);
    try {
      putOnBench(await opened(file));
    } catch (problem) {
      askForBundle();
      if (!(problem instanceof Refused) || !page.bundle) throw problem;
      throw new Refused(`${problem.message} “${page.bundle.contract.name}” is still open.`);
    } finally {
      $("opening").hidden = page.bundle !== null;
      $("bench").inert = false;
      focused?.focus({ preventScroll: true });
    }
    await showGolden(0);
    return page.bundle;
  }));
}

function showOpening(name) {
  $("opening-title").textContent = `Opening ${name}`;
  $("opening").classList.toggle("again", page.bundle !== null);
  $("opening").hidden = false;
  $("choose-bundle").hidden = true;
  $("progress-bar").hidden = false;
  $("bench").inert = true;
  say("reading the file", 0);
}

function say(what, share) {
  const before = page.bundle ? `; “${page.bundle.contract.name}” stays until then` : "";
  $("progress").textContent = what + before;
  $("progress-bar").value = share;
}

async function opened(file) {
  const buffer = file instanceof Blob ? await file.arrayBuffer() : file;
  say("checking every hash", 0.05);
  const bundle = await openBundle(buffer);
  const goldens = await Promise.all(bundle.contract.golden.map((golden) => decodeGolden(golden, bundle)));
  const model = new Model(bundle);
  const memory = remembered(bundle.hash);
  try {
    const worst = await selfTest(model, goldens, (what, share) => say(what, 0.1 + 0.8 * share));
    say("loading the face finder", 0.9);
    await page.finding;
    const first = model.tier(memory.tier) ?? model.tier(bundle.contract.default_tier);
    await model.use(first.name);
    return { bundle, goldens, model, worst, memory };
  } catch (problem) {
    await model.release();
    throw problem;
  }
}

function putOnBench({ bundle, goldens, model, worst, memory }) {
  stopCamera();
  page.model?.release();
  Object.assign(page, {
    bundle, model, goldens, worst, history: [], reading: null, handBox: null, switchMs: null, asked: null,
    tierMs: isObject(memory.ms) ? memory.ms : {},
  });
  furnish();
  $("found").textContent = ""; // of the bundle before
  $("budget").value = $("budget").defaultValue;
  if (memory.tier && model.current.tier.name === memory.tier) $("budget").value = memory.budget;
}

/** Everything that depends on the bundle alone. */
function furnish() {
  const { contract } = page.bundle;
  document.title = `${contract.name} – pliant`;
  $("model-name").textContent = contract.name;
  $("notice").textContent = SYNTHETIC_ALONE;
  $("notice").hidden = contract.task !== "pad" || !contract.provenance.data?.synthetic;
  $("trace-meaning").textContent = `higher = more ${contract.task === "pad" ? "bona fide" : "probable"}`;
  $("bench").hidden = false;
  $("open-bundle").hidden = false;
  $("by-hand").hidden = contract.task !== "pad";
  $("time-name").textContent = SPANS[contract.task];
  $("budget-meaning").textContent = `from ${SPANS[contract.task]}`;
  $("ms-meaning").textContent = `ms: the median here ${SPAN_WORDS[contract.task]}`;
  $("whole-time").hidden = contract.task !== "pad"; // nothing is to be found: it would be the same
  $("custom").hidden = !contract.selection.num_blocks;
  fillSamples();
  fillTiers();
  fillBlocks();
  fillAbout();
  showConfiguration();
}

function fillSamples() {
  $("samples").replaceChildren(...page.goldens.map((golden, i) => {
    const size = page.bundle.contract.preprocessing.size;
    const canvas = element("canvas", { width: size, height: size });
    paintCrop(canvas, cropSquare(golden.image, golden.box, page.bundle.contract.preprocessing));
    const button = element("button", { type: "button", ariaLabel: `test image ${i + 1}` }, canvas);
    button.addEventListener("click", () => attempt(() => pictureInTurn(() => showGolden(i))));
    return element("li", {}, button);
  }));
}

function fillAbout() {
  const { contract, hash } = page.bundle;
  const data = contract.provenance.data ?? {};
  const facts = {
    Model: `${contract.name}, ${contract.precision}, input ${contract.preprocessing.size} px`,
    Written: `${contract.created} by pliant ${contract.pliant}`,
    Licence: contract.licence,
    "Trained on": [data.name, data.synthetic ? "synthetic" : ""].filter((one) => isText(one) && one).join(", ") || "not said",
    "SHA-256": hash,
    "Self-test": `${page.goldens.length} images in ${contract.tiers.length} tiers; largest difference ${page.worst.toExponential(1)}`,
    "Runs on": `onnxruntime-web ${ort.env.versions.web}, ${ort.env.wasm.numThreads} thread${ort.env.wasm.numThreads > 1 ? "s" : ""}`,
  };
  $("about").replaceChildren(...Object.entries(facts).map(([term, fact]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, fact))));
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// ---- pictures: golden images, photos, the camera

async function showGolden(i) {
  stopCamera();
  const golden = page.goldens[i];
  for (const [k, item] of [...$("samples").children].entries()) {
    item.firstChild.setAttribute("aria-pressed", String(k === i));
  }
  await showPicture(golden.image, golden.box, `Test image ${i + 1} of ${page.goldens.length}, drawn and not photographed`);
}

async function showPhoto(file) {
  refuseUnless(page.bundle, "This is no bundle; open one first, then a photo.");
  const image = await decodeImage(file);
  stopCamera();
  unpressSamples();
  await showPicture(image, null, file.name || "A photo");
}

function unpressSamples() {
  for (const item of $("samples").children) item.firstChild.setAttribute("aria-pressed", "false");
}

async function showPicture(image, box, words) {
  const canvas = $("photo");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
  setHandBox(null);
  page.picture = { image, canvas, box, film: null };
  $("source").textContent = words;
  await look();
}

/** Scores what is on the stage and shows it; in turn alone. */
async function look() {
  if (!page.picture) return;
  const { picture } = page;
  show(await examine(page.model, page.finder, { ...picture, box: page.handBox ?? picture.box }), picture);
}

let looks = 0;
/** Looks again at the same picture; of several times that wait only the last is needed. */
function lookAgain() {
  const mine = ++looks;
  return inTurn(() => (mine === looks ? look() : null));
}

async function startCamera() {
  refuseUnless(navigator.mediaDevices?.getUserMedia, "The browser offers no camera here; choose a photo.");
  let stream;
  $("camera").disabled = true; // a second click while the browser asks would open a second stream
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } },
    });
  } catch (problem) {
    throw new Refused(problem.name === "NotAllowedError"
      ? "The camera was not allowed; allow it in the browser's address bar, or choose a photo."
      : "No camera could be opened; choose a photo.");
  } finally {
    $("camera").disabled = false;
  }
  page.stream = stream;
  page.films += 1;
  for (const track of stream.getTracks()) track.addEventListener("ended", stopCamera);
  $("video").srcObject = stream;
  await $("video").play();
  unpressSamples();
  setHandBox(null);
  setCameraWords(true);
  watch(stream).catch(showProblem);
}

function stopCamera() {
  for (const track of page.stream?.getTracks() ?? []) track.stop();
  page.stream = null;
  $("video").srcObject = null;
  setCameraWords(false);
}

function freeze() {
  stopCamera();
  $("source").textContent = "The camera’s last frame";
}

function setCameraWords(on) {
  $("camera").setAttribute("aria-pressed", String(on));
  $("camera").textContent = on ? "Stop the camera" : "Start the camera";
  $("video").hidden = !on;
  $("photo").classList.toggle("behind", on);
  $("stage").classList.toggle("mirrored", on);
  if (on) $("source").textContent = "The camera, mirrored; each frame is scored and dropped";
}

/** Scores frame after frame while the camera runs. */
async function watch(stream) {
  while (page.stream === stream) {
    await nextFrame($("video"));
    await inTurn(async () => {
      if (page.stream !== stream) return;
      grabFrame($("video"));
      await look();
    });
  }
}

function nextFrame(video) {
  const pause = new Promise((done) => setTimeout(done, FRAME_GAP_MS));
  const frame = new Promise((done) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(done);
    else requestAnimationFrame(done);
    setTimeout(done, 1000); // a camera that stopped must not hold the page
  });
  return Promise.all([pause, frame]);
}

function grabFrame(video) {
  const canvas = $("photo");
  if (canvas.width !== video.videoWidth || canvas.height !== video.videoHeight) {
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  page.picture = { canvas, box: null, film: page.films, image: context.getImageData(0, 0, canvas.width, canvas.height) };
}

// ---- a box drawn by hand

function setHandBox(box) {
  page.handBox = box;
  $("by-hand").textContent = box ? "Find the face" : "Draw the box";
  $("by-hand").setAttribute("aria-pressed", String(Boolean(box)));
  $("stage").classList.toggle("by-hand", Boolean(box));
  if (!box) {
    for (const name of ["tabindex", "role", "aria-label"]) $("stage").removeAttribute(name);
    return;
  }
  $("stage").tabIndex = 0;
  $("stage").setAttribute("role", "group");
  $("stage").setAttribute("aria-label", "Box around the face: arrow keys move it, with Shift they resize it, or draw it");
}

async function toggleHandBox() {
  if (page.handBox) {
    setHandBox(null);
    if (page.picture) page.picture.box = null;
    return lookAgain();
  }
  setHandBox(page.reading?.box ?? centredBox(page.picture.canvas));
  $("stage").focus();
  return lookAgain();
}

function centredBox({ width, height }) {
  const side = Math.min(width, height) / 2;
  return [(width - 0.76 * side) / 2, (height - side) / 2, 0.76 * side, side];
}

function moveHandBox(event) {
  const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!page.handBox || !direction || event.target !== $("stage")) return;
  event.preventDefault();
  const [x, y, width, height] = page.handBox;
  const stride = Math.max(1, 0.02 * longerSide(page.handBox));
  const mirror = $("stage").classList.contains("mirrored") && !event.shiftKey ? -1 : 1;
  const [right, down] = [direction[0] * stride * mirror, direction[1] * stride];
  setHandBox(event.shiftKey
    ? [x - right / 2, y - down / 2, Math.max(8, width + right), Math.max(8, height + down)]
    : [x + right, y + down, width, height]);
  attempt(lookAgain);
}

/** Where a pointer is, in pixels of the picture. */
function pointOf(event) {
  const { width, height } = $("photo");
  const frame = $("stage").getBoundingClientRect();
  const scale = Math.min(frame.width / width, frame.height / height);
  let x = (event.clientX - frame.left - (frame.width - width * scale) / 2) / scale;
  if ($("stage").classList.contains("mirrored")) x = width - x;
  return [x, (event.clientY - frame.top - (frame.height - height * scale) / 2) / scale];
}

function drawHandBox(event) {
  const byTouch = event.pointerType === "touch";
  if (!page.picture || event.button || page.bundle.contract.task !== "pad") return;
  if (byTouch && !page.handBox) return; // a finger scrolls the page until a box is asked for
  event.preventDefault();
  const stage = $("stage");
  const from = pointOf(event);
  stage.setPointerCapture(event.pointerId);
  const grow = (move) => {
    const to = pointOf(move);
    const [x, y] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
    const [width, height] = [Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
    if (Math.min(width, height) < 8) return;
    setHandBox([x, y, width, height]);
    showBoxes({ box: page.handBox, verdict: "undecided" });
  };
  const stop = () => {
    stage.removeEventListener("pointermove", grow);
    attempt(lookAgain);
  };
  stage.addEventListener("pointermove", grow);
  stage.addEventListener("lostpointercapture", stop, { once: true });
}

// ---- what is shown about an image

function show(reading, { film }) {
  page.reading = reading;
  page.history.push({
    score: reading.score, verdict: reading.verdict, tier: reading.made.tier?.name ?? reading.made.configuration, film,
  });
  page.history.splice(0, page.history.length - HISTORY);
  showVerdict(reading);
  showFigures(reading);
  showBoxes(reading);
  showTrace(reading);
}

function showVerdict(reading) {
  const word = WORDS[reading.verdict] ?? reading.name;
  $("verdict").dataset.verdict = reading.verdict;
  $("verdict-icon").setAttribute("href", `#icon-${reading.verdict}`);
  $("verdict-word").textContent = word;
  $("verdict-reason").textContent = reading.reason ?? nearness(reading);
  sayVerdict(reading.reason ? `${word}: ${reading.reason}` : `${word}, score ${reading.score.toFixed(2)}`, word);
}

/** How far from the threshold; within its interval another dev set could have said otherwise. */
function nearness({ verdict, score, made }) {
  if (verdict === "class") return `probability ${score.toFixed(3)}`;
  const [low, high] = intervalOf(made.tier) ?? [1, 0];
  if (score >= low && score <= high) return "a close call, inside the threshold’s interval";
  const distance = Math.abs(score - made.tier.threshold.value).toFixed(2);
  return `${distance} ${verdict === "bona_fide" ? "above" : "below"} the threshold of ${made.tier.name}`;
}

function intervalOf(tier) {
  const interval = tier?.threshold?.interval;
  return isNumbers(interval, 2, 0, 1 + 1e-9) ? interval : null;
}

const spoken = { word: "", at: -Infinity };
function sayVerdict(sentence, word) {
  const now = performance.now();
  if (word === spoken.word && page.stream) return;
  if (now - spoken.at < SAY_EVERY_MS && page.stream) return;
  Object.assign(spoken, { word, at: now });
  $("live").textContent = sentence;
}

function showFigures({ score, made, ms, crop }) {
  const limit = made.tier?.threshold;
  $("score").textContent = score === null ? "–" : score.toFixed(3);
  $("threshold").textContent = limit ? limit.value.toFixed(3) : "none";
  const toScore = score === null ? 0 : ms.crop + ms.model; // as budgets count it
  $("time").replaceChildren(toScore ? `${toScore.toFixed(1)} ms` : "–",
    ...(toScore ? [element("small", {}, "crop and network")] : []));
  $("whole").replaceChildren(ms.face || toScore ? `${(ms.face + toScore).toFixed(0)} ms` : "–",
    element("small", {}, ms.face ? `${ms.face.toFixed(0)} to find the face` : "the box was given"));
  if (crop) paintCrop($("crop"), crop);
  $("crop").classList.toggle("stale", !crop);
}

function paintCrop(canvas, crop) {
  const size = Math.sqrt(crop.length / 3);
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    image.data.set([crop[3 * i], crop[3 * i + 1], crop[3 * i + 2], 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function showBoxes({ box, verdict }) {
  const { width, height } = $("photo");
  const { crop_scale: scale } = page.bundle.contract.preprocessing;
  $("overlay").setAttribute("viewBox", `0 0 ${width} ${height}`);
  $("overlay").dataset.verdict = verdict;
  placeRect($("box"), box);
  const { left, top, side } = squareAround(width, height, box, scale);
  placeRect($("square"), box && [left, top, side, side]);
}

function placeRect(rect, box) {
  rect.classList.toggle("absent", !box);
  if (!box) return;
  for (const [i, name] of ["x", "y", "width", "height"].entries()) rect.setAttribute(name, box[i].toFixed(1));
}

/** The last scores, oldest left. A line joins the frames of one run of the camera, photos stay dots;
 * each stretch of one tier has the threshold of that tier. */
function showTrace({ made, score }) {
  const places = Math.max(LEAST_SHOWN, page.history.length);
  const start = places - page.history.length;
  const points = page.history.map((entry, i) => ({ ...entry, x: start + i, y: heightOf(entry.score) }));
  const dots = (keep) => points.filter((point) => point.score !== null && keep(point))
    .map(({ x, y }) => `M${x} ${y}h0`).join("");
  $("trace-line").setAttribute("d", lineThrough(points));
  for (const verdict of ["bona_fide", "attack", "undecided"]) {
    $(`trace-${verdict}`).setAttribute("d", dots((point) => (WORDS[point.verdict] ? point.verdict : "undecided") === verdict));
  }
  $("trace").classList.toggle("dense", page.history.length > HISTORY / 2);
  $("trace").setAttribute("viewBox", `-0.5 0 ${places} 100`);
  showLimits(stretches(points));
  const words = limitWords(made.tier);
  $("trace-label").textContent = words;
  const scored = points.filter((point) => point.score !== null).length;
  $("trace-words").textContent = [`${scored} scores`, `the latest ${score === null ? "was none" : score.toFixed(3)}`, words]
    .filter(Boolean).join("; ");
}

const heightOf = (score) => (100 * (1 - score)).toFixed(2);

function lineThrough(points) {
  const joined = (one, other) => one.film !== null && one.film === other.film && one.score !== null && other.score !== null;
  return points.slice(1).map((point, i) => [points[i], point]).filter(([one, other]) => joined(one, other))
    .map(([one, other]) => `M${one.x} ${one.y}L${other.x} ${other.y}`).join("");
}

/** Where each tier was in use, from half a place before its first score to half behind its last. */
function stretches(points) {
  const found = [];
  for (const { tier, x } of points) {
    if (found.at(-1)?.tier === tier) found.at(-1).to = x + 0.5;
    else found.push({ tier, from: found.length ? x - 0.5 : -0.5, to: x + 0.5 });
  }
  return found;
}

function showLimits(found) {
  let [limits, bands] = ["", ""];
  for (const { tier: name, from, to } of found) {
    const tier = page.model.tier(name); // none: a configuration of one's own
    const interval = intervalOf(tier);
    if (tier?.threshold) limits += `M${from} ${heightOf(tier.threshold.value)}H${to}`;
    if (interval) bands += `M${from} ${heightOf(interval[0])}H${to}V${heightOf(interval[1])}H${from}Z`;
  }
  $("trace-threshold").setAttribute("d", limits);
  $("trace-band").setAttribute("d", bands);
  $("trace-switches").setAttribute("d", found.slice(1).map(({ from }) => `M${from} 0V100`).join(""));
}

function limitWords(tier) {
  if (!tier?.threshold) return "";
  const [low, high] = intervalOf(tier) ?? [];
  return `${tier.name} accepts from ${tier.threshold.value.toFixed(2)}` +
    (low === undefined ? "" : `, interval ${low.toFixed(2)} to ${high.toFixed(2)}`);
}

// ---- tiers

function fillTiers() {
  const { tiers } = page.bundle.contract;
  $("tier").max = tiers.length - 1;
  $("tier").disabled = tiers.length === 1;
  $("tier-list").style.setProperty("--count", tiers.length);
  $("tier").style.setProperty("--count", tiers.length);
  $("tier-list").classList.toggle("crowded", tiers.length > 6);
  $("tier-list").replaceChildren(...tiers.map((tier, i) => {
    const item = element("li", {}, element("b", {}, tier.name), element("span", {}, cost(tier.macs)),
      element("span", { className: "ms" }), element("span", {}, quality(tier)));
    item.addEventListener("click", () => {
      $("tier").value = i;
      attempt(switchTier);
    });
    return item;
  }));
  showTierMs();
}

function cost(macs) {
  return `${(macs / 1e6).toPrecision(macs < 1e7 ? 2 : 3)} MMACs`;
}

function quality({ dev }) {
  const [name, value] = ["auc", "accuracy"].map((one) => [one, dev?.[one]]).find(([, v]) => Number.isFinite(v)) ?? [];
  return name ? `${name === "auc" ? "AUC" : name} ${value.toFixed(3)}` : "";
}

function showTierMs() {
  for (const [i, tier] of page.bundle.contract.tiers.entries()) {
    const ms = page.tierMs[tier.name];
    $("tier-list").children[i].querySelector(".ms").textContent = Number.isFinite(ms) ? `${ms.toFixed(1)} ms` : "";
  }
  $("ms-meaning").hidden = !Object.values(page.tierMs).some(Number.isFinite);
}

async function switchTier() {
  const tier = page.bundle.contract.tiers[$("tier").valueAsNumber];
  $("found").textContent = "";
  await switchTo(tier.name, tier.configuration);
}

/** Switches; of several that were asked for meanwhile only the last is carried out. */
function switchTo(tierName, configuration) {
  const asked = page.asked = { tierName, configuration };
  if (page.busy) $("switched").textContent = `waits ${BUSY[page.busy]}`;
  return inTurn(() => (asked === page.asked ? carryOut(asked) : null));
}

async function carryOut(asked) {
  try {
    page.switchMs = await page.model.use(asked.tierName, asked.configuration);
  } finally {
    if (page.asked === asked) page.asked = null;
    showConfiguration();
  }
  if (!page.stream) await look();
}

function showConfiguration() {
  const { contract, files } = page.bundle;
  const { tier, configuration } = page.model.current;
  const place = contract.tiers.indexOf(tier);
  if (tier && !page.asked) $("tier").value = place; // else the thumb is where it was dragged since
  $("tier").setAttribute("aria-valuetext", tier ? tierWords(tier) : "a configuration of your own");
  $("tier").classList.toggle("elsewhere", !tier);
  for (const [i, item] of [...$("tier-list").children].entries()) item.classList.toggle("chosen", i === place);
  $("strip").replaceChildren(...[...configuration].map(blockGlyph));
  $("strip").setAttribute("aria-label", `Branches of the ${configuration.length} blocks: ${branchWords(configuration)}`);
  for (const [i, button] of [...$("blocks").children].entries()) nameBlock(button, i, configuration[i]);
  const size = files.get(contract.model_file).length.toLocaleString("en");
  $("switched").textContent = page.switchMs === null ? "" :
    `${contract.selection.length} of ${size} bytes rewritten, ready in ${page.switchMs.toFixed(0)} ms`;
}

function tierWords(tier) {
  const ms = page.tierMs[tier.name];
  const millions = `${(tier.macs / 1e6).toPrecision(3)} million multiply-accumulates`;
  return [tier.name, millions, Number.isFinite(ms) && `${ms.toFixed(1)} milliseconds here`].filter(Boolean).join(", ");
}

function branchWords(configuration) {
  const counts = Object.entries(BRANCHES).map(([letter, name]) => [[...configuration].filter((one) => one === letter).length, name]);
  return counts.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(", ");
}

function blockGlyph(letter) {
  const known = Object.hasOwn(BRANCHES, letter);
  const glyph = element("span", { className: `block ${known ? BRANCHES[letter] : ""}` });
  if (known) glyph.append(element("i", {}), element("i", {}));
  else glyph.textContent = letter;
  return glyph;
}

async function findMyTier() {
  const budget = $("budget").valueAsNumber;
  refuseUnless(budget > 0, "A budget must be a number of milliseconds above 0.");
  const button = $("find").querySelector("button");
  button.disabled = true;
  try {
    await inTurn(() => busyWith("measuring", () => measureAndChoose(budget)));
  } finally {
    button.disabled = false;
  }
}

async function measureAndChoose(budget) {
  const { contract, hash } = page.bundle;
  const tell = (sentence) => { $("found").textContent = sentence; };
  page.tierMs = await measureTiers(page.model, (what) => tell(`${what} …`));
  showTierMs();
  const msOf = ({ name }) => `${page.tierMs[name].toFixed(1)} ms from ${SPANS[contract.task]}`;
  const best = bestWithin(contract, page.tierMs, budget);
  if (!best) {
    const fastest = contract.tiers.reduce((one, other) => (page.tierMs[one.name] <= page.tierMs[other.name] ? one : other));
    return tell(`No tier fits ${budget} ms here; the fastest, ${fastest.name}, takes ${msOf(fastest)}.`);
  }
  remember(hash, { budget, ms: page.tierMs, tier: best.name });
  if (page.asked) return tell(`${best.name} is the best within ${budget} ms: ${msOf(best)}. You chose another meanwhile.`);
  await carryOut({ tierName: best.name, configuration: best.configuration });
  return tell(`${best.name} is your tier: ${msOf(best)}, within ${budget} ms. Remembered for this bundle.`);
}

// ---- a configuration of one's own

function fillBlocks() {
  const { num_blocks: count } = page.bundle.contract.selection;
  $("blocks").replaceChildren(...Array.from({ length: count }, (_, i) => {
    const button = element("button", { type: "button" });
    button.addEventListener("click", () => attempt(() => turnBlock(i)));
    return button;
  }));
}

function nameBlock(button, i, letter) {
  button.replaceChildren(blockGlyph(letter), element("span", { className: "letter" }, letter));
  button.setAttribute("aria-label", `block ${i + 1}: ${BRANCHES[letter] ?? letter}`);
}

async function turnBlock(i) {
  const { letters } = page.bundle.contract.selection;
  const { configuration } = page.asked ?? page.model.current; // a turn may follow one that still waits
  const next = letters[(letters.indexOf(configuration[i]) + 1) % letters.length];
  await switchTo(null, configuration.slice(0, i) + next + configuration.slice(i + 1));
}

// ---- events

function listen() {
  const on = (id, event, work) => $(id).addEventListener(event, (given) => attempt(() => work(given)));
  on("camera", "click", () => (page.stream ? freeze() : startCamera()));
  on("choose-photo", "click", () => $("photo-file").click());
  on("open-bundle", "click", () => $("bundle-file").click());
  on("choose-bundle", "click", () => $("bundle-file").click());
  on("by-hand", "click", toggleHandBox);
  on("tier", "input", switchTier);
  on("back-to-tier", "click", switchTier);
  on("photo-file", "change", ({ target }) => takeFile(target));
  on("bundle-file", "change", ({ target }) => takeFile(target));
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(findMyTier);
  });
  $("stage").addEventListener("keydown", moveHandBox);
  $("stage").addEventListener("pointerdown", drawHandBox);
  listenForDrops();
}

async function takeFile(input) {
  const [file] = input.files;
  input.value = "";
  if (file) await take(file, { bundle: input.id === "bundle-file" });
}

/** A bundle or a photo, by its first bytes. */
async function take(file, { bundle = false } = {}) {
  const magic = new DataView(await file.slice(0, 4).arrayBuffer());
  if (magic.byteLength === 4 && magic.getUint32(0, true) === 0x04034b50) return adopt(file, `“${file.name.slice(0, 80)}”`);
  refuseUnless(!bundle, "This file is no bundle; choose one that pliant export wrote.");
  return pictureInTurn(() => showPhoto(file));
}

function listenForDrops() {
  const mark = (over) => document.body.classList.toggle("dropping", over);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => mark(event.relatedTarget !== null));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    const [file] = event.dataTransfer.files;
    if (file) attempt(() => take(file));
  });
}

listen();
openPage();
