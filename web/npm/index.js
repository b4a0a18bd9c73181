// What the package offers; index.d.ts says more. The program is loaded with the first model, here or in a worker.

import * as local from "./local.js";
import * as remote from "./remote.js";

export class Lddgan {
  /** Makes the pixels: the program, or a worker in its place. None after free(). */
  #maker;
  #executor;
  #note;
  /** Ends when all calls so far have. */
  #calls = Promise.resolve();

  constructor(maker) {
    this.#take(maker);
    this.imageSize = maker.imageSize;
    this.steps = maker.steps;
  }

  static async load(source, { worker = false, wasmUrl, relaxedWasmUrl, onProgress, signal, ...options } = {}) {
    signal?.throwIfAborted();
    const { load } = worker ? remote : local;
    const model = await bytesOrAddress(source);
    const programs = { wasmUrl: await bytesOrAddress(wasmUrl), relaxedWasmUrl: await bytesOrAddress(relaxedWasmUrl) };
    const tell = onProgress && ((bytes, total) => onProgress({ bytes, total }));
    const loaded = load(model, { ...options, ...programs, onProgress: tell, signal });
    return new this(await until(signal, loaded));
  }

  async generate({ canvas, onStep, signal, ...options } = {}) {
    const [maker, earlier] = [this.#here(), this.#calls];
    const tell = onStep && ((face, step, pixels) => onStep({ face, step, image: this.#image(pixels) }));
    const made = earlier.then(() => {
      signal?.throwIfAborted();
      return maker.generate({ ...options, onStep: tell, signal });
    });
    this.#calls = made.then(() => {}, () => {});
    const pixels = await until(signal, made);
    if (this.#maker) this.#take(maker);
    const faces = pixels.map((pixels) => this.#image(pixels));
    if (canvas) draw(faces, this.imageSize, canvas);
    return faces;
  }

  get executor() {
    this.#here();
    return this.#executor;
  }

  get note() {
    this.#here();
    return this.#note;
  }

  free() {
    const maker = this.#here();
    this.#maker = undefined;
    this.#calls.then(() => maker.free());
  }

  #here() {
    if (this.#maker) return this.#maker;
    throw new Error("This model was given back with free(); load it again.");
  }

  #take(maker) {
    this.#maker = maker;
    this.#executor = maker.executor;
    this.#note = maker.note;
  }

  /** Node has no ImageData, but its properties serve there too. */
  #image(data) {
    const [width, height] = [this.imageSize, this.imageSize];
    return globalThis.ImageData ? new ImageData(data, width, height) : { data, width, height, colorSpace: "srgb" };
  }
}

/** What a worker can be given, where relative addresses would be others. */
async function bytesOrAddress(source) {
  if (globalThis.Blob && source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (typeof source !== "string" && !(source instanceof URL)) return source;
  return new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href).href;
}

/** The promise, unless the signal comes before it. */
async function until(signal, promise) {
  if (!signal) return promise;
  const done = new AbortController();
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { signal: done.signal });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    done.abort();
  }
}

/** Side by side, as near to a square as they go. */
function draw(faces, size, canvas) {
  const columns = Math.ceil(Math.sqrt(faces.length));
  canvas.width = columns * size;
  canvas.height = Math.ceil(faces.length / columns) * size;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The canvas cannot be drawn on: it has a context of another kind already.");
  faces.forEach((face, i) => context.putImageData(face, (i % columns) * size, Math.floor(i / columns) * size));
}
