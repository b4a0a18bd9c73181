// Makes faces on this thread.

import { hasRelaxedSimd } from "./has-relaxed-simd.js";

/** The program, once it was asked for. */
let ready;

export async function load(model, { wasmUrl, relaxedWasmUrl, ...options }) {
  ready ??= start(wasmUrl, relaxedWasmUrl);
  // What failed is tried again by the next call.
  ready.catch(() => { ready = undefined; });
  const { Program } = await ready;
  return Program.load(model, options);
}

async function start(wasmUrl, relaxedWasmUrl) {
  // Where one program was moved and nobody says where the other is, it was probably moved, too.
  const isRelaxed = hasRelaxedSimd && (relaxedWasmUrl !== undefined || wasmUrl === undefined);
  try {
    const program = await (isRelaxed ? import("./relaxed.js") : import("./program.js"));
    await program.default({ module_or_path: isRelaxed ? relaxedWasmUrl : wasmUrl });
    return program;
  } catch (error) {
    const [file, option] = isRelaxed ? ["relaxed_bg.wasm", "relaxedWasmUrl"] : ["program_bg.wasm", "wasmUrl"];
    const words = `The program (${file}) cannot be loaded. Where a bundler has moved it, give its address as ${option}`;
    throw new Error(`${words}: ${error.message}`, { cause: error });
  }
}
