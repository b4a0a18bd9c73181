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

// Takes what comes, though nobody reads it yet. If the connection breaks, what came before can still be read.
async function download(url, total) {
  const response = await fetch(url);
  const reader = response.body.getReader();
  const chunks = [];
  let bytes = 0;
  let end;
  let wake;
  const take = async () => {
    for (let part; !(part = await reader.read()).done; wake?.()) {
      chunks.push(part.value);
      bytes += part.value.length;
      if (early) postMessage([JSON.stringify({ Downloading: { bytes, total } })]);
    }
  };
  const finish = (how) => {
    end = how;
    wake?.();
  };
  take().then(() => finish((output) => output.close()), (error) => finish((output) => output.error(error)));
  const pull = async (output) => {
    while (!chunks.length && !end) await new Promise((resolve) => { wake = resolve; });
    if (chunks.length) output.enqueue(chunks.shift());
    else end(output);
  };
  return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), response);
}

// A program that has stopped cannot say so itself.
onerror = (message) => {
  postMessage([JSON.stringify({ Stopped: message })]);
  return true;
};
