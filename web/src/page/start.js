// Loads the program from the files that the build names, and the model beside it; starts the program here and, when it
// asks for that, in a worker.
{
  const folder = new URL("./", document.baseURI).href;
  const meta = (name) => document.querySelector(`meta[name=${name}]`);
  const address = (name) => new URL(meta(name).content, folder).href;

  // A published page has a faster program for browsers with relaxed SIMD.
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const test = meta("relaxed-program")?.dataset.test;
  let kind = test && WebAssembly.validate(bytes(test)) ? "relaxed-" : "";

  // What the build recorded of the file at an address: its size and hash. Nothing in a page that was not published.
  const files = JSON.parse(document.getElementById("files")?.textContent ?? "{}");
  const record = (url) => files[url.slice(folder.length)] ?? {};

  const worker = new Worker("worker.js", { type: "module" });
  let early = worker;
  // What goes wrong before the program listens goes wrong again when it asks for a worker.
  worker.onerror = () => { early = undefined; };

  globalThis.startWorker = (module) => {
    const started = early ?? new Worker("worker.js", { type: "module" });
    early = undefined;
    worker.onmessage = worker.onerror = null;
    started.postMessage({ glue: address(`${kind}glue`), module });
    return started;
  };

  // One bar for program and model, until the program takes it over.
  const loading = {};
  const show = (part, bytes, total) => {
    loading[part] = { bytes, total: total ?? NaN };
    const parts = Object.values(loading);
    const sum = (key) => parts.reduce((all, part) => all + part[key], 0);
    const megabytes = (key) => (sum(key) / 1e6).toFixed(1);
    const progress = document.getElementById("progress");
    const isKnown = sum("total") > 0;
    if (isKnown) [progress.max, progress.value] = [sum("total"), sum("bytes")];
    progress.dataset.program = loading.program?.bytes ?? 0;
    const amount = document.getElementById("amount");
    amount.textContent = isKnown ? `${megabytes("bytes")} of ${megabytes("total")} MB` : `${megabytes("bytes")} MB`;
  };
  worker.onmessage = ({ data: [json] }) => {
    const { Downloading: news } = JSON.parse(json);
    if (news) show("model", news.bytes, news.total);
  };

  // Says that nothing of the program comes, until something does.
  const setStalled = (stalled) => {
    const retry = document.getElementById("retry");
    const error = document.getElementById("error");
    error.textContent = "The download of the program has stalled. Check the connection, then try again.";
    error.hidden = retry.hidden = !stalled;
    retry.onclick = stalled ? () => location.reload() : null;
  };

  // To be called whenever something of a file of the program has come, and whether there is more of it to wait for.
  const STALL_TIMEOUT = 10_000;
  const waited = new Set();
  let timeout;
  let stalled = false;
  const watch = (file, waits) => {
    waited[waits ? "add" : "delete"](file);
    clearTimeout(timeout);
    if (stalled) setStalled(stalled = false);
    if (waited.size > 0) timeout = setTimeout(() => setStalled(stalled = true), STALL_TIMEOUT);
  };

  const loadGlue = () => {
    const url = address(`${kind}glue`);
    watch(url, true);
    return import(url).finally(() => watch(url, false));
  };

  const loadProgram = async () => {
    const url = address(`${kind}program`);
    watch(url, true);
    const response = await fetch(url).finally(() => watch(url, false));
    watch(url, true);
    const unpacked = response.headers.has("content-encoding") ? undefined : response.headers.get("content-length");
    let bytes = 0;
    const count = new TransformStream({
      flush: () => watch(url, false),
      transform(chunk, output) {
        watch(url, true);
        show("program", bytes += chunk.length, record(url).bytes ?? (Number(unpacked) || undefined));
        output.enqueue(chunk);
      },
    });
    return new Response(response.body.pipeThrough(count), response);
  };

  const modelUrl = (name) => `${folder}models/${name}.safetensors`;

  // Whether the browser keeps this model for the page, under its hash. It may take its time to say nothing.
  const keeps = async (url) => {
    const find = async () => Boolean(await globalThis.caches?.match(`${url}?sha256=${record(url).sha256}`));
    const late = new Promise((resolve) => setTimeout(resolve, 1000));
    return Promise.race([find().catch(() => false), late]);
  };

  // Which model to begin with: that of the address; otherwise, on a slow connection, a smaller one, which the address
  // names from then on. An address that names faces means those of the default.
  const chooseModel = async () => {
    const asked = new URLSearchParams(location.search);
    const notice = document.getElementById("smaller");
    const larger = notice.querySelector("a");
    const byDefault = new URLSearchParams(larger.search).get("model");
    const named = asked.get("model") ?? byDefault;
    // What cannot be a name is left to the program, which says so.
    if (!/^[\w-]+$/.test(named)) return byDefault;
    const isOpen = !["model", "seed", "seeds", "name"].some((name) => asked.has(name));
    // Not by `downlink`, which browsers guess low before they know the line.
    const { saveData, effectiveType } = navigator.connection ?? {};
    const isSlow = saveData || ["slow-2g", "2g", "3g"].includes(effectiveType);
    if (!isOpen || !isSlow || await keeps(modelUrl(byDefault))) return named;
    const { bytes } = record(modelUrl(byDefault));
    if (bytes) larger.append(` (${(bytes / 1e6).toFixed(1)} MB)`);
    notice.hidden = false;
    asked.set("model", notice.dataset.model);
    history.replaceState(null, "", `?${asked}`);
    return notice.dataset.model;
  };

  const loadModel = async () => {
    const url = modelUrl(await chooseModel());
    if (await keeps(url)) return;
    const total = record(url).bytes;
    show("model", 0, total);
    early?.postMessage({ model: url, total });
  };

  const loadBindings = async () => {
    const [bindings, program] = await Promise.all([loadGlue(), loadProgram()]);
    await bindings.default({ module_or_path: program });
    return bindings;
  };

  // Without network, a browser that has learned relaxed SIMD since its last visit has kept the other program.
  const loadKept = (error) => {
    if (!kind) throw error;
    kind = "";
    return loadBindings();
  };

  const start = async () => {
    const [bindings] = await Promise.all([loadBindings().catch(loadKept), loadModel()]);
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
