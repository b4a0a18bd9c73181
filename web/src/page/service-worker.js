// Keeps the files of the page, so that it opens without network. The build writes, before this, BUILD: a version, size and
// hash of every file, and which files are of the program for every browser and of that with relaxed SIMD.

const OWN = `lddgan ${registration.scope} `;
const FILES = OWN + BUILD.version;
const MODELS = OWN + "models";

// Some hosts answer index.html by sending the browser elsewhere.
const address = (path) => new URL(path === "index.html" ? "./" : path, registration.scope).href;

addEventListener("install", (event) => event.waitUntil(keepAll()));
addEventListener("activate", (event) => event.waitUntil(forgetOthers()));
addEventListener("message", ({ data }) => data === "take over" && skipWaiting());

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const path = new URL(url).pathname.slice(new URL(registration.scope).pathname.length) || "index.html";
  const isOurs = method === "GET" && url.startsWith(registration.scope) && Object.hasOwn(BUILD.files, path);
  // The page itself keeps models, under their hashes.
  if (isOurs && !/^models\/[^.]*\.safetensors$/.test(path)) event.respondWith(answer(event.request, path));
});

// Keeps the page with the program that this browser runs. What belongs to a model is kept when it is used.
async function keepAll() {
  const { test, baseline, relaxed } = BUILD.programs;
  const isRelaxed = WebAssembly.validate(Uint8Array.from(atob(test), (character) => character.charCodeAt(0)));
  const other = new Set(isRelaxed ? baseline : relaxed);
  const paths = Object.keys(BUILD.files).filter((path) => !path.startsWith("models/") && !other.has(path));
  await Promise.all(paths.map(keep));
}

// Downloads and keeps a file. Fails unless it is that of this build.
async function keep(path) {
  const digest = BUILD.files[path].sha256.match(/../g).map((digits) => parseInt(digits, 16));
  const integrity = `sha256-${btoa(String.fromCharCode(...digest))}`;
  const response = await fetch(address(path), { cache: "no-cache", integrity });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  // A browser refuses an answer that it was sent elsewhere for when it asked for a page: what is kept is the file alone.
  const { status, statusText, headers } = response;
  const file = new Response(await response.blob(), { status, statusText, headers });
  const cache = await caches.open(FILES);
  await cache.put(address(path), file.clone());
  return file;
}

async function answer(request, path) {
  const cache = await caches.open(FILES);
  const kept = await cache.match(address(path));
  if (kept) return kept;
  // Where the browser has no room, or the site has another version by now, the network is better than nothing.
  return keep(path).catch(() => fetch(request));
}

// Forgets earlier versions of the page, and the weights that this one does not name.
async function forgetOthers() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(OWN) && name !== FILES && name !== MODELS);
  await Promise.all(old.map((name) => caches.delete(name)));
  const current = new Set(Object.values(BUILD.files).map(({ sha256 }) => sha256));
  const models = await caches.open(MODELS);
  for (const request of await models.keys()) {
    if (!current.has(new URL(request.url).searchParams.get("sha256"))) await models.delete(request);
  }
  await clients.claim();
}
