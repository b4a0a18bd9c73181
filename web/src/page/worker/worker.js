// Starts the program in a worker: the same JavaScript and the already compiled module that the page runs. Before that,
// begins to download the model.
let early;

onmessage = async ({ data: { model, total, glue, module } }) => {
  if (model) {
    early = { model, response: download(model, total) };
    // If it fails, it does so for the program.
    early.response.catch(() => {});
    return;
  }
  // For the program in this one.
  globalThis.startWorker = (module) => {
    const worker = new Worker(location.href, { type: "module" });
    worker.postMessage({ glue, module });
    return worker;
  };
  const { default: init, start } = await import(glue);
  await init({ module_or_path: module });
  start();
};

// The answer for a model that was asked for early, once. From then on the program tells how much of it is here.
globalThis.takeEarly = (url) => {
  const taken = early?.model === url ? early.response : undefined;
  early = undefined;
  return taken;
};

async function download(url, total) {
  const response = await fetch(url);
  let bytes = 0;
  const count = (chunk, output) => {
    bytes += chunk.length;
    if (early) postMessage([JSON.stringify({ Downloading: { bytes, total } })]);
    output.enqueue(chunk);
  };
  // Takes what comes, though nobody reads it yet.
  const all = new ByteLengthQueuingStrategy({ highWaterMark: Infinity });
  return new Response(response.body.pipeThrough(new TransformStream({ transform: count }, all, all)), response);
}

// A program that has stopped cannot say so itself.
onerror = (message) => {
  postMessage([JSON.stringify({ Stopped: message })]);
  return true;
};
