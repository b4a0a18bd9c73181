// Loads the program from the files that the build names, and starts it here and, when it asks for that, in a worker.
{
  const address = (name) => new URL(document.querySelector(`meta[name=${name}]`).content, document.baseURI).href;

  globalThis.startWorker = (module) => {
    const worker = new Worker("worker.js", { type: "module" });
    worker.postMessage([address("glue"), module]);
    return worker;
  };

  // Says that nothing of the program comes, until something does.
  const setStalled = (stalled) => {
    const retry = document.getElementById("retry");
    const error = document.getElementById("error");
    error.textContent = "Nothing of the program comes any more. Check the connection, then try again.";
    error.hidden = retry.hidden = !stalled;
    retry.onclick = stalled ? () => location.reload() : null;
  };

  // The answer with a file, watched while it comes.
  const download = async (address) => {
    const STALL = 10_000;
    let timer;
    let stalled = false;
    const watch = (goesOn) => {
      clearTimeout(timer);
      if (stalled) setStalled(stalled = false);
      if (goesOn) timer = setTimeout(() => setStalled(stalled = true), STALL);
    };
    watch(true);
    const { body, status, statusText, headers } = await fetch(address).finally(() => watch(false));
    if (status !== 200 || !body) throw new Error(`the server answered ${status} ${statusText}`);
    watch(true);
    const watched = new TransformStream({
      transform(bytes, stream) {
        watch(true);
        stream.enqueue(bytes);
      },
      flush: () => watch(false),
    });
    return new Response(body.pipeThrough(watched), { headers });
  };

  const start = async () => {
    const bindings = await import(address("glue"));
    await bindings.default({ module_or_path: download(address("program")) });
    globalThis.wasmBindings = bindings;
    bindings.start();
  };

  // Keeps a page that was published for visits without network.
  const keep = async () => {
    const registration = await navigator.serviceWorker.register("service-worker.js");
    const announce = () => {
      const update = document.getElementById("update");
      update.hidden = false;
      update.querySelector("button").onclick = () => {
        navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
        if (registration.waiting) registration.waiting.postMessage("take over");
        else location.reload();
      };
    };
    // The first service worker takes over by itself, and is no news.
    const watch = (worker) => worker?.addEventListener("statechange", () => {
      if (worker.state === "installed" && registration.active) announce();
    });
    watch(registration.installing);
    registration.addEventListener("updatefound", () => watch(registration.installing));
    if (registration.waiting && registration.active) announce();
    await navigator.serviceWorker.ready;
  };

  const isPublished = document.getElementById("files") !== null;
  const isKept = isPublished && "serviceWorker" in navigator ? keep().then(() => true, () => false) : false;

  let modelIsKept;
  globalThis.showKept = async (kept) => {
    modelIsKept = kept;
    const offline = document.getElementById("offline");
    const persists = await navigator.storage?.persisted?.().catch(() => false);
    offline.querySelector("dd").textContent = modelIsKept && await isKept
      ? `It opens without network${persists ? "" : ", until the browser needs the room for something else"}.`
      : "It needs the network each time: this browser keeps no files of it.";
    offline.hidden = false;
  };

  // Asks the browser to keep the page for good, once the visitor has kept something of it.
  globalThis.persist = async () => {
    if (modelIsKept && await navigator.storage?.persist?.().catch(() => false)) showKept(modelIsKept);
  };

  start().catch(stopped);
}
