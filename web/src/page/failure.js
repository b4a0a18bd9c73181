// What the program cannot say itself, because it did not start or has stopped.
{
  globalThis.stopped = (reason) => {
    const error = document.getElementById("error");
    if (!error.hidden) return;
    error.textContent = `The program stopped: ${reason?.message ?? reason}. Reload the page; if that does not help, `
      + "use a current version of Chrome, Edge, Firefox or Safari.";
    error.hidden = false;
    document.querySelector("main").dataset.state = "failed";
    document.getElementById("status").textContent = "No faces can be made.";
  };

  // Notices of the browser, errors of extensions and pictures that do not load are no reason to stop.
  const folder = new URL("./", location.href).href;
  const isOurs = (error) => error instanceof WebAssembly.RuntimeError
    || (error instanceof Error && String(error.stack).includes(folder) && !String(error.stack).includes("-extension:"));
  addEventListener("error", (event) => {
    if (event.target instanceof HTMLScriptElement) stopped("a part of it could not be loaded");
    else if (isOurs(event.error)) stopped(event.error);
  }, { capture: true });
  addEventListener("unhandledrejection", ({ reason }) => {
    if (isOurs(reason)) stopped(reason);
  });
}
