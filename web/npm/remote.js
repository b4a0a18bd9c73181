// Makes faces in a worker, whose answers worker.js sends.

export async function load(model, options) {
  const remote = new Remote();
  try {
    await remote.load(model, options);
    return remote;
  } catch (error) {
    remote.free();
    throw error;
  }
}

class Remote {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  /** What waits for an answer. */
  #calls = new Map();
  #count = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, told, state, value, error } }) => {
      const call = this.#calls.get(id);
      if (told) return call.tell(...told);
      this.#calls.delete(id);
      Object.assign(this, state);
      if (error === undefined) call.resolve(value);
      else call.reject(new Error(error));
    };
    this.#worker.onerror = ({ message }) => {
      for (const { reject } of this.#calls.values()) reject(new Error(`The worker stopped: ${message ?? "it cannot be loaded"}`));
    };
  }

  load(model, { onProgress, signal, ...options }) {
    // What was begun for nothing ends with the worker.
    signal?.addEventListener("abort", () => this.free());
    return this.#call("load", onProgress, signal, model, options);
  }

  generate({ onStep, signal, ...options }) {
    return this.#call("generate", onStep, signal, options);
  }

  free() {
    this.#worker.terminate();
  }

  #call(name, tell, signal, ...values) {
    const id = ++this.#count;
    signal?.addEventListener("abort", () => this.#worker.postMessage({ id, name: "abort" }), { once: true });
    this.#worker.postMessage({ id, name, values, listens: tell !== undefined });
    return new Promise((resolve, reject) => this.#calls.set(id, { tell, resolve, reject }));
  }
}
