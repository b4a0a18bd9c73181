//! A server of one folder, for this machine alone, to which its page sends what it found.

use anyhow::{Context, Result};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long a page may stay silent.
const REPORT_TIMEOUT: Duration = Duration::from_secs(600);

pub struct Server {
    port: u16,
    posts: Receiver<(String, String)>,
}

impl Server {
    pub fn start(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?;
        let port = listener.local_addr()?.port();
        let (sender, posts) = channel();
        let folder = folder.to_path_buf();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, sender) = (folder.clone(), sender.clone());
                // A connection that breaks off is the browser's business: it asks again.
                thread::spawn(move || drop(answer(stream, &folder, &sender)));
            }
        });
        Ok(Self { port, posts })
    }

    pub fn address(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.port)
    }

    /// Waits for what the page posts as `report`; what else it posts is shown.
    pub fn report(&self) -> Result<String> {
        loop {
            let silent = || format!("the page has said nothing for {} s", REPORT_TIMEOUT.as_secs());
            let (name, text) = self.posts.recv_timeout(REPORT_TIMEOUT).with_context(silent)?;
            if name == "report" {
                return Ok(text);
            }
            println!("{text}");
        }
    }
}

fn answer(stream: TcpStream, folder: &Path, posts: &Sender<(String, String)>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    if method == "POST" {
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body)?;
        posts.send((path, body))?;
        return respond(stream, "200 OK", "text/plain", b"");
    }
    match inside(folder, &path).and_then(|path| Some((mime(&path), fs::read(path).ok()?))) {
        Some((mime, bytes)) => respond(stream, "200 OK", mime, &bytes),
        None => respond(stream, "404 Not Found", "text/plain", b""),
    }
}

/// The file of this path, unless it leads out of the folder.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(path))
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("js" | "mjs") => "text/javascript",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// With the headers that allow a page to have threads.
fn respond(mut stream: TcpStream, status: &str, mime: &str, body: &[u8]) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {mime}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(())
}
