//! Serves the built page, with model files that the tests make.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, thread};

/// A server on a free port of this machine, until the process ends.
pub struct Server {
    /// `http://127.0.0.1:<port>/`
    pub address: String,
}

impl Server {
    /// Serves `dist/`, and `files` (by their paths) as if they were in it. Panics if the page was not built.
    pub fn start(files: HashMap<String, Vec<u8>>) -> Self {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("dist");
        let built = dist.join("index.html").is_file();
        assert!(built, "{} has no page: build it with `cargo xtask test` or `trunk build --release`", dist.display());
        let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
        let address = format!("http://{}/", listener.local_addr().expect("the listener is bound"));
        let site = Arc::new(Site { dist, files });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = site.clone();
                // A browser that hangs up early is no concern of the server.
                thread::spawn(move || site.answer(stream).unwrap_or_default());
            }
        });
        Self { address }
    }
}

struct Site {
    dist: PathBuf,
    files: HashMap<String, Vec<u8>>,
}

impl Site {
    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        // The whole request must be read, or closing the connection would reset it.
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let target = request.split(' ').nth(1).unwrap_or("/");
        let path = target.split('?').next().unwrap_or(target).trim_start_matches('/');
        let path = if path.is_empty() { "index.html" } else { path };
        let (status, body) = match self.file(path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", Vec::new()),
        };
        let (kind, length) = (mime_type(path), body.len());
        let head = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
        write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n\r\n")?;
        stream.write_all(&body)
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let made = self.files.get(path).cloned();
        made.or_else(|| fs::read(self.dist.join(path)).ok())
    }
}

fn mime_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}
