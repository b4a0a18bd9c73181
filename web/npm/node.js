// The same in Node: files are read, and WebGPU is that of the package `webgpu`, where it is installed.

import { readFile } from "node:fs/promises";

import { Lddgan as InBrowser } from "./index.js";

export class Lddgan extends InBrowser {
  static async load(source, { worker, wasmUrl, relaxedWasmUrl, ...options } = {}) {
    if (worker) throw new Error("worker: true is for browsers; in Node, load the model in a thread of node:worker_threads.");
    await offerWebGpu();
    const beside = (name) => new URL(name, import.meta.url);
    if (wasmUrl === undefined) relaxedWasmUrl ??= beside("relaxed_bg.wasm");
    wasmUrl ??= beside("program_bg.wasm");
    const programs = { wasmUrl: await read(wasmUrl), relaxedWasmUrl: await read(relaxedWasmUrl) };
    return super.load(await read(source), { ...options, ...programs });
  }
}

/** The bytes of a file; what is no file's path or address, as it is. */
async function read(source) {
  const isPath = typeof source === "string" && !/^[a-z]{2,}:/i.test(source);
  const isAddress = /^file:/.test(source?.href ?? source);
  return isPath ? readFile(source) : isAddress ? readFile(new URL(source)) : source;
}

async function offerWebGpu() {
  if (globalThis.navigator?.gpu) return;
  const dawn = await import("webgpu").catch(() => undefined);
  if (!dawn) return;
  Object.assign(globalThis, dawn.globals);
  globalThis.navigator ??= {};
  Object.defineProperty(globalThis.navigator, "gpu", { value: dawn.create([]), configurable: true });
  // The program looks for WebGPU in windows and in workers alone.
  globalThis.WorkerGlobalScope ??= class WorkerGlobalScope {};
}
