//! Serves the built page, with model files that the tests make, and fails where a test wants it to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use flate2::{Compression, write::GzEncoder};

/// A server on a free port of this machine, until it is stopped or the process ends.
pub struct Server {
    /// `http://127.0.0.1:<port>/`, and the folder of the site in which the page is.
    pub address: String,
    site: Arc<Site>,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `dist/`, and `files` (by their paths) as if they were in it. Panics if the page was not built.
    pub fn start(files: HashMap<String, Vec<u8>>) -> Self {
        Self::serve(&workspace().join("dist"), "", files)
    }

    /// Serves a folder as the folder `under` (empty, or with a slash at its end) of the site, and `files` as if they
    /// were in it.
    pub fn serve(folder: &Path, under: &'static str, files: HashMap<String, Vec<u8>>) -> Self {
        assert!(folder.is_dir(), "there is no {}: `cargo xtask test` makes it", folder.display());
        let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
        let address = format!("http://{}/{under}", listener.local_addr().expect("the listener is bound"));
        let site = Arc::new(Site {
            folder: folder.to_path_buf(),
            under,
            files: files.into(),
            line: Line { bytes_per_second: f64::INFINITY, free: Instant::now() }.into(),
            requests: Mutex::default(),
            breaks: Mutex::default(),
            stalls: Mutex::default(),
            redirects: false.into(),
            completes_folder: false.into(),
            compresses: false.into(),
            ignores_ranges: false.into(),
            stopped: false.into(),
        });
        let shared = site.clone();
        let listener = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let site = shared.clone();
                // A browser that hangs up early is no concern of the server.
                thread::spawn(move || site.answer(stream).unwrap_or_default());
            }
        });
        Self { address, site, listener: Some(listener) }
    }

    /// Serves these files from now on.
    pub fn replace(&self, files: HashMap<String, Vec<u8>>) {
        lock(&self.site.files).extend(files);
    }

    /// Hangs up after so many bytes of the file, once for each call.
    pub fn break_off(&self, path: &str, after: usize) {
        lock(&self.site.breaks).push((path.to_owned(), after));
    }

    /// Sends nothing more after so many bytes of the file, and stays connected; once for each call.
    pub fn stall(&self, path: &str, after: usize) {
        lock(&self.site.stalls).push((path.to_owned(), after));
    }

    /// Sends browsers that ask for the folder itself elsewhere, to index.html in it.
    pub fn redirect_folder(&self) {
        self.site.redirects.store(true, Ordering::SeqCst);
    }

    /// Sends browsers that ask for the folder without a slash at its end to the one with it, for good.
    pub fn complete_folder(&self) {
        self.site.completes_folder.store(true, Ordering::SeqCst);
    }

    /// Compresses every file from now on, which then has no parts to ask for.
    pub fn compress(&self) {
        self.site.compresses.store(true, Ordering::SeqCst);
        self.ignore_ranges();
    }

    /// Sends whole files alone from now on, whatever part is asked for.
    pub fn ignore_ranges(&self) {
        self.site.ignores_ranges.store(true, Ordering::SeqCst);
    }

    /// Sends so many bytes a second from now on, to all that ask together.
    pub fn slow_down(&self, bytes: f64) {
        lock(&self.site.line).bytes_per_second = bytes;
    }

    /// For each request for this file, what part of it was asked for: `bytes=<first>-`, or empty for all of it.
    pub fn requests(&self, path: &str) -> Vec<String> {
        let requests = lock(&self.site.requests);
        requests.iter().filter(|(requested, _)| requested == path).map(|(_, range)| range.clone()).collect()
    }

    /// Refuses all connections from now on.
    pub fn stop(&mut self) {
        self.site.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let port = self.address.split('/').nth(2).expect("the address has a host");
        drop(TcpStream::connect(port));
        if let Some(listener) = self.listener.take() {
            listener.join().expect("the listener does not panic");
        }
    }
}

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all files are sent over.
struct Line {
    bytes_per_second: f64,
    /// When all that is on its way has been sent.
    free: Instant,
}

struct Site {
    folder: PathBuf,
    under: &'static str,
    files: Mutex<HashMap<String, Vec<u8>>>,
    line: Mutex<Line>,
    /// Path and range.
    requests: Mutex<Vec<(String, String)>>,
    breaks: Mutex<Vec<(String, usize)>>,
    stalls: Mutex<Vec<(String, usize)>>,
    redirects: AtomicBool,
    completes_folder: AtomicBool,
    compresses: AtomicBool,
    ignores_ranges: AtomicBool,
    stopped: AtomicBool,
}

impl Site {
    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut range = String::new();
        // The whole request must be read, or closing the connection would reset it.
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some(asked) = line.to_lowercase().strip_prefix("range: ") {
                range = asked.to_owned();
            }
        }
        let target = request.split(' ').nth(1).unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.trim_start_matches('/');
        if self.completes_folder.load(Ordering::SeqCst) && format!("{path}/") == self.under {
            let head = "Content-Length: 0\r\nConnection: close";
            return write!(stream, "HTTP/1.1 301 Moved Permanently\r\nLocation: /{path}/?{query}\r\n{head}\r\n\r\n");
        }
        let path = path.strip_prefix(self.under).unwrap_or("outside of the page's folder");
        if path.is_empty() && self.redirects.load(Ordering::SeqCst) {
            let head = "HTTP/1.1 302 Found\r\nLocation: index.html\r\nContent-Length: 0\r\nConnection: close";
            return write!(stream, "{head}\r\n\r\n");
        }
        let path = if path.is_empty() { "index.html" } else { path };
        lock(&self.requests).push((path.to_owned(), range.clone()));
        let Some(file) = self.file(path) else {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let start = range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok());
        let start = start.filter(|_| !self.ignores_ranges.load(Ordering::SeqCst));
        let compresses = self.compresses.load(Ordering::SeqCst);
        let file = if compresses { gzip(&file)? } else { file };
        let body = &file[start.unwrap_or(0)..];
        let (kind, length, size) = (mime_type(path), body.len(), file.len());
        let status = match start {
            Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}", size - 1),
            None => "200 OK".to_owned(),
        };
        let head = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
        let encoding = if compresses { "Content-Encoding: gzip\r\n" } else { "" };
        write!(stream, "HTTP/1.1 {status}\r\n{encoding}{head}\r\n\r\n")?;
        if let Some(end) = Self::take(&self.stalls, path) {
            self.send(&mut stream, &body[..end.min(length)])?;
            // The browser hangs up when it has waited long enough.
            return stream.read(&mut [0]).map(drop);
        }
        self.send(&mut stream, &body[..Self::take(&self.breaks, path).unwrap_or(length).min(length)])
    }

    /// The files take turns, packet by packet.
    fn send(&self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        const PACKET: usize = 4096;
        for packet in bytes.chunks(PACKET) {
            let mut line = lock(&self.line);
            let seconds = packet.len() as f64 / line.bytes_per_second;
            let sent = line.free.max(Instant::now()) + Duration::from_secs_f64(seconds);
            line.free = sent;
            drop(line);
            thread::sleep(sent.saturating_duration_since(Instant::now()));
            stream.write_all(packet)?;
        }
        Ok(())
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let made = lock(&self.files).get(path).cloned();
        made.or_else(|| fs::read(self.folder.join(path)).ok())
    }

    /// Where to fail in a file, if a test wants that.
    fn take(faults: &Mutex<Vec<(String, usize)>>, path: &str) -> Option<usize> {
        let mut faults = lock(faults);
        let index = faults.iter().position(|(wanted, _)| wanted == path)?;
        Some(faults.remove(index).1)
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn mime_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
