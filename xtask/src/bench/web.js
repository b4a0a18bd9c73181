// Times networks in this browser, ours and ONNX Runtime's in turns, and posts what it found.

import init, { Bench } from "./lddgan/lddgan_web.js";
import * as ort from "./node_modules/onnxruntime-web/dist/ort.webgpu.min.mjs";

const { batches, seconds, cpu } = await (await fetch("settings.json")).json();

const log = (text) => fetch("log", { method: "POST", body: text });

async function timed(call) {
  const start = performance.now();
  const value = await call();
  return [value, performance.now() - start];
}

// Median, fastest and slowest of some milliseconds.
function summary(milliseconds) {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  return {
    trials: sorted.length,
    median: sorted[Math.floor(sorted.length / 2)],
    fastest: sorted[0],
    slowest: sorted[sorted.length - 1],
  };
}

async function bytes(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// From nothing to the first image.
async function firstImage() {
  const [, program] = await timed(() => init());
  const model = await bytes("model.safetensors");
  const [bench, load] = await timed(() => Bench.load(model));
  const [, compile] = await timed(() => bench.prepare(1));
  const [, image] = await timed(() => bench.sample(1));
  return [bench, { program, load, compile, image }];
}

// The runtimes that a network is timed under: each a function that runs it and gives its result.
async function runtimes(bench, network, batch) {
  const inputs = {};
  for (const name of bench.inputs(network)) {
    const shape = bench.shape(network, name, batch);
    inputs[name] = new ort.Tensor("float32", bench.values(network, name, batch), Array.from(shape));
  }
  if (network === "generator") {
    inputs.t = new ort.Tensor("int64", new BigInt64Array(batch).fill(BigInt(bench.step())), [batch]);
  }
  const peer = async (provider) => {
    const session = await ort.InferenceSession.create(`${network}.onnx`, { executionProviders: [provider] });
    return async () => {
      const results = await session.run(inputs);
      return results[session.outputNames[0]].data;
    };
  };
  bench.compile_for_cpu(network, batch);
  const onCpu = {
    "ours, WebAssembly": () => bench.cpu(network, batch),
    "onnxruntime-web, WebAssembly": await peer("wasm"),
  };
  if (cpu) return onCpu;
  await bench.compile(network, batch);
  return {
    "ours, WebGPU": () => bench.webgpu(network, batch),
    "onnxruntime-web, WebGPU": await peer("webgpu"),
    ...onCpu,
  };
}

// The largest difference between the results of one runtime and those of the first.
function difference(found, expected) {
  if (found.length !== expected.length) throw new Error(`${found.length} values, not ${expected.length}`);
  return found.reduce((largest, value, i) => Math.max(largest, Math.abs(value - expected[i])), 0);
}

async function time(bench, network, batch) {
  const calls = await runtimes(bench, network, batch);
  const milliseconds = {};
  const errors = {};
  let first;
  for (const [name, call] of Object.entries(calls)) {
    const [result, warm] = await timed(call);
    first ??= result;
    errors[name] = difference(result, first);
    milliseconds[name] = [];
    await log(`${network}, batch ${batch}, ${name}: first ${warm.toFixed(1)} ms, differs by ${errors[name]}`);
  }
  // In turns, so that a busy machine slows all.
  const end = performance.now() + 1000 * seconds;
  do {
    for (const [name, call] of Object.entries(calls)) milliseconds[name].push((await timed(call))[1]);
  } while (performance.now() < end);
  return Object.keys(calls).map((name) => ({
    network,
    batch,
    runtime: name,
    difference: errors[name],
    milliseconds: summary(milliseconds[name]),
  }));
}

async function run() {
  const [bench, first] = await firstImage();
  const times = [];
  for (const network of ["generator", "decoder"]) {
    for (const batch of batches) times.push(...(await time(bench, network, batch)));
  }
  return { adapter: bench.adapter(), browser: navigator.userAgent, threads: ort.env.wasm.numThreads, first, times };
}

const report = await run().catch((error) => ({ error: String(error?.stack ?? error) }));
await fetch("report", { method: "POST", body: JSON.stringify(report) });
