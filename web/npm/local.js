// Makes faces on this thread.

import init, { Program } from "./program.js";

/** Once it was asked for. */
let ready;

export async function load(model, { wasmUrl, ...options }) {
  ready ??= init({ module_or_path: wasmUrl });
  try {
    await ready;
  } catch (error) {
    ready = undefined;
    const words = "The program (program_bg.wasm) cannot be loaded. Where a bundler has moved it, give its address as wasmUrl";
    throw new Error(`${words}: ${error.message}`, { cause: error });
  }
  return Program.load(model, options);
}
