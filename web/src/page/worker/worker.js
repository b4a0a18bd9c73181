// Starts the program in a worker: the same JavaScript and the already compiled module that the page runs.
onmessage = async ({ data: [glue, module] }) => {
  // For the program in this one.
  globalThis.startWorker = (module) => {
    const worker = new Worker(location.href, { type: "module" });
    worker.postMessage([glue, module]);
    return worker;
  };
  const { default: init, start } = await import(glue);
  await init({ module_or_path: module });
  start();
};

// A program that has stopped cannot say so itself.
onerror = (message) => {
  postMessage([JSON.stringify({ Stopped: message })]);
  return true;
};
