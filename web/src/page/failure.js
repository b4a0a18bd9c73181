// What the program cannot say itself, because it did not start or has stopped.
{
  const failed = (reason) => {
    const error = document.getElementById("error");
    if (!error.hidden) return;
    error.textContent = `The program stopped: ${reason?.message ?? reason}. Reload the page; if that does not help, `
      + "use a current version of Chrome, Edge, Firefox or Safari.";
    error.hidden = false;
    document.querySelector("main").dataset.state = "failed";
    document.getElementById("status").textContent = "No faces can be made.";
  };
  const unloaded = "a part of it could not be loaded";
  addEventListener("error", (event) => failed(event.error ?? event.message ?? unloaded), { capture: true });
  addEventListener("unhandledrejection", (event) => failed(event.reason));
}
