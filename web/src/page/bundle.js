// In the single file, where nothing can be fetched: what the program fetches comes from the file itself, in the page
// and in its worker. The build puts the glue of wasm-bindgen before this.

const answerFrom = (files, folder) => {
  globalThis.fetch = async (request) => {
    const [address] = new URL(request.url ?? request, folder).href.split("?");
    const file = files.get(address.slice(folder.length));
    return file
      ? new Response(file, { headers: { "content-length": file.size } })
      : new Response(null, { status: 404, statusText: "Not in this file" });
  };
};

const start = async (program, files, folder) => {
  answerFrom(files, folder);
  await wasm_bindgen({ module_or_path: program });
  wasm_bindgen.start();
};

if (!globalThis.document) {
  onmessage = ({ data: { module, files, folder, starter } }) => {
    // A worker of a file on a disk may start no other. So the window does, and the two talk through a channel.
    globalThis.startWorker = (module) => {
      const { port1, port2 } = new MessageChannel();
      postMessage({ module, starter: port2 }, [port2]);
      port1.terminate = () => port1.postMessage("terminate");
      return port1;
    };
    if (starter) {
      globalThis.postMessage = (...message) => starter.postMessage(...message);
      starter.onmessage = ({ data }) => {
        if (data === "terminate") close();
        else dispatchEvent(new MessageEvent("message", { data }));
      };
    }
    start(module, files, folder);
  };
  // A program that has stopped cannot say so itself.
  onerror = (message) => {
    postMessage([JSON.stringify({ Stopped: message })]);
    return true;
  };
} else {
  // A worker cannot load a file beside this one, but the text of this script again.
  const code = URL.createObjectURL(new Blob([document.currentScript.text], { type: "text/javascript" }));
  const folder = new URL("./", location.href).href;

  const unpack = async (part) => {
    const text = atob(part.text);
    part.remove();
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return [part.dataset.path, await new Response(stream).blob()];
  };

  addEventListener("DOMContentLoaded", async () => {
    const parts = [...document.querySelectorAll("script[data-path]")];
    const files = new Map(await Promise.all(parts.map(unpack)));
    const program = await files.get("program.wasm").arrayBuffer();
    files.delete("program.wasm");
    globalThis.startWorker = (module, starter) => {
      const worker = new Worker(code);
      worker.postMessage({ module, files, folder, starter }, starter ? [starter] : []);
      worker.addEventListener("message", (event) => {
        if (!event.data.starter) return;
        event.stopImmediatePropagation();
        startWorker(event.data.module, event.data.starter);
      });
      return worker;
    };
    globalThis.wasmBindings = wasm_bindgen;
    await start(await WebAssembly.compile(program), files, folder);
  });
}
