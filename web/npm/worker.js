// Answers remote.js.

import { load } from "./local.js";

let maker;
/** Of the calls that run. */
const aborts = new Map();

const calls = {
  load: async (onProgress, signal, model, options) => {
    maker = await load(model, { ...options, onProgress, signal });
  },
  generate: (onStep, signal, options) => maker.generate({ ...options, onStep, signal }),
};

onmessage = async ({ data: { id, name, values, listens } }) => {
  if (name === "abort") return aborts.get(id)?.abort();
  const abort = new AbortController();
  aborts.set(id, abort);
  const tell = listens ? (...told) => postMessage({ id, told }) : undefined;
  try {
    const value = await calls[name](tell, abort.signal, ...values);
    const { imageSize, steps, executor, note } = maker;
    postMessage({ id, value, state: { imageSize, steps, executor, note } }, value?.map(({ buffer }) => buffer) ?? []);
  } catch (error) {
    postMessage({ id, error: error.message });
  } finally {
    aborts.delete(id);
  }
};
