//! Downloads that go on after an interruption, and are verified.

use std::mem::take;

use js_sys::{Promise, Reflect, Uint8Array};
use lddgan::hash::hex;
use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, Request, RequestCache, RequestInit, Response};

use super::FileRecord;
use crate::format::describe;
use crate::time::{pause, scope, within};

/// How often a broken connection is tried again, if nothing comes any more.
const ATTEMPTS: u32 = 4;
/// Milliseconds before the first of them; each later one waits twice as long.
const PAUSE: i32 = 500;
/// Milliseconds without a byte after which a connection is taken to be dead.
const STALL: i32 = 10_000;
/// Milliseconds that a server may take to begin its answer.
const ANSWER: i32 = 30_000;

#[wasm_bindgen]
extern "C" {
    /// The answer to a request for this address that was made before the program was there; only the page makes one.
    #[wasm_bindgen(catch, js_name = takeEarly)]
    fn take_early(url: &str) -> Result<Option<Promise>, JsValue>;
}

/// What a download tells while it runs.
pub enum Progress {
    /// How much is there, and of how much where that is known.
    Received { bytes: u64, total: Option<u64> },
    /// Nothing comes any more; the server is asked again.
    Stalled,
    /// The connection broke, and the download goes on after `bytes`.
    Resumed { bytes: u64 },
    /// The connection broke, and the download begins again.
    Restarted,
}

/// A file on its way.
pub struct Download {
    url: String,
    /// Its name in errors.
    file: String,
    expected: Option<FileRecord>,
    received: Vec<u8>,
    /// Of what was received.
    hasher: Sha256,
    /// Names the server's version of the file: the rest of another would not fit.
    version: Option<String>,
    was_interrupted: bool,
    /// What the browser remembers of this address may be wrong.
    is_suspect: bool,
    /// Ends it.
    signal: Option<AbortSignal>,
}

/// Why no more came.
enum Failure {
    /// The connection broke: another attempt may help.
    Connection(JsValue),
    /// The server's answer, in words.
    Answer(String),
}

impl Download {
    /// A download that begins with [`Self::finish`].
    pub fn new(url: String, expected: Option<FileRecord>) -> Self {
        let file = url.rsplit('/').next().unwrap_or(&url).to_owned();
        let (received, hasher) = Default::default();
        Self {
            url,
            file,
            expected,
            received,
            hasher,
            version: None,
            was_interrupted: false,
            is_suspect: false,
            signal: None,
        }
    }

    /// The same download, which ends with an error when this signal says so.
    pub fn until(self, signal: Option<AbortSignal>) -> Self {
        Self { signal, ..self }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Downloads what is missing. After an error, which is in words, another call goes on where this one stopped.
    pub async fn finish(&mut self, tell: impl Fn(Progress)) -> Result<Vec<u8>, String> {
        let mut attempts = 0;
        loop {
            let before = self.received.len();
            let error = match self.receive(&tell).await {
                Ok(()) => return self.verified(),
                Err(Failure::Answer(reason)) => return Err(reason),
                Err(Failure::Connection(error)) => error,
            };
            self.was_interrupted = true;
            let is_aborted = self.signal.as_ref().is_some_and(AbortSignal::aborted);
            attempts = if self.received.len() > before { 1 } else { attempts + 1 };
            if attempts >= ATTEMPTS || is_aborted {
                let (file, error) = (&self.file, describe(error));
                return Err(format!("{file} could not be downloaded: {error}. Check the connection, then try again."));
            }
            pause(PAUSE << (attempts - 1)).await;
        }
    }

    /// Everything from here to the end of the file, on one connection.
    async fn receive(&mut self, tell: &impl Fn(Progress)) -> Result<(), Failure> {
        let response = within(ANSWER, self.request()).await.ok_or_else(silent)?.map_err(Failure::Connection)?;
        self.take_up(&response, tell)?;
        let total = self.total(&response);
        let body = response.body().ok_or_else(|| self.failed("the answer is empty"))?;
        let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
        tell(Progress::Received { bytes: self.received.len() as u64, total });
        loop {
            let Some(chunk) = within(STALL, next_chunk(&reader)).await else {
                tell(Progress::Stalled);
                // The answer is awaited no more; that the browser ends it too is all that is asked.
                drop(reader.cancel());
                return Err(silent());
            };
            let Some(chunk) = chunk.map_err(Failure::Connection)? else { return Ok(()) };
            let start = self.received.len();
            self.received.resize(start + chunk.length() as usize, 0);
            chunk.copy_to(&mut self.received[start..]);
            self.hasher.update(&self.received[start..]);
            tell(Progress::Received { bytes: self.received.len() as u64, total });
        }
    }

    /// Asks for the file, or for the rest of it.
    async fn request(&self) -> Result<Response, JsValue> {
        if let Ok(Some(early)) = take_early(&self.url) {
            return JsFuture::from(early).await.map(JsCast::unchecked_into);
        }
        let options = RequestInit::new();
        if self.is_suspect {
            options.set_cache(RequestCache::Reload);
        }
        options.set_signal(self.signal.as_ref());
        let request = Request::new_with_str_and_init(&self.url, &options)?;
        if !self.received.is_empty() {
            request.headers().set("Range", &format!("bytes={}-", self.received.len()))?;
            if let Some(version) = &self.version {
                request.headers().set("If-Range", version)?;
            }
        }
        JsFuture::from(scope().fetch_with_request(&request)).await.map(JsCast::unchecked_into)
    }

    /// Looks at whether the answer is the rest of the file, or all of it.
    fn take_up(&mut self, response: &Response, tell: &impl Fn(Progress)) -> Result<(), Failure> {
        let header = |name| response.headers().get(name).ok().flatten();
        let bytes = self.received.len();
        let goes_on = header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {bytes}-")));
        if response.status() == 206 && goes_on {
            tell(Progress::Resumed { bytes: bytes as u64 });
            return Ok(());
        }
        self.discard();
        match response.status() {
            // The server does not have that part: the file is another now.
            206 | 416 => return Err(Failure::Connection("the file on the server has changed".into())),
            200 if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) => {
                return Err(self.failed("the server answered with a web page: is the address right?"));
            }
            200 => {}
            status => return Err(self.failed(&format!("the server answered {status} {}", response.status_text()))),
        }
        // A weak tag does not tell whether every byte is the same.
        let tag = header("etag").filter(|tag| !tag.starts_with("W/"));
        self.version = tag.or_else(|| header("last-modified"));
        if self.was_interrupted {
            tell(Progress::Restarted);
        }
        Ok(())
    }

    /// The size of the whole file; the length of a compressed answer is another.
    fn total(&self, response: &Response) -> Option<u64> {
        if let Some(expected) = &self.expected {
            return Some(expected.bytes);
        }
        let header = |name| response.headers().get(name).ok().flatten();
        if header("content-encoding").is_some() {
            return None;
        }
        let rest: u64 = header("content-length")?.parse().ok()?;
        Some(rest + self.received.len() as u64)
    }

    /// The file, if it is the one that was expected.
    fn verified(&mut self) -> Result<Vec<u8>, String> {
        let found = hex(&self.hasher.finalize_reset());
        let bytes = take(&mut self.received);
        match &self.expected {
            Some(expected) if expected.sha256 != found => {
                self.is_suspect = true;
                let (file, expected) = (&self.file, &expected.sha256);
                Err(format!(
                    "{file} is not the file that this page was made for: it was damaged in transit, or is of another \
                     version (SHA-256 {found:.8}…, expected {expected:.8}…). Try again; if that does not help, reload \
                     the page."
                ))
            }
            _ => Ok(bytes),
        }
    }

    fn discard(&mut self) {
        self.received.clear();
        self.hasher.reset();
    }

    fn failed(&self, reason: &str) -> Failure {
        let end = if reason.ends_with('?') { "" } else { "." };
        Failure::Answer(format!("{} could not be downloaded: {reason}{end}", self.file))
    }
}

fn silent() -> Failure {
    Failure::Connection("the server stopped sending".into())
}

async fn next_chunk(reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>, JsValue> {
    let result = JsFuture::from(reader.read()).await?;
    if Reflect::get(&result, &"done".into())?.is_truthy() {
        return Ok(None);
    }
    Reflect::get(&result, &"value".into())?.dyn_into().map(Some)
}
