// Loads the program from the files that the build names, and starts it here and, when it asks for that, in a worker.
{
  const address = (name) => new URL(document.querySelector(`meta[name=${name}]`).content, document.baseURI).href;

  globalThis.startWorker = (module) => {
    const worker = new Worker("worker.js", { type: "module" });
    worker.postMessage([address("glue"), module]);
    return worker;
  };

  const start = async () => {
    const bindings = await import(address("glue"));
    await bindings.default({ module_or_path: address("program") });
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
