//! Drivers, which start browsers, on ports that they or we choose.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::server::workspace;

/// A program that drives a browser, until this is dropped.
pub struct Driver {
    pub port: u16,
    /// The driver, and the screen that the browser needs, if it does.
    processes: Vec<Child>,
}

impl Driver {
    /// Starts ChromeDriver on a free port. Another program may take the port that it chose before it does; then it ends.
    pub fn chrome() -> Self {
        const ATTEMPTS: usize = 5;
        (0..ATTEMPTS).find_map(|_| Self::try_chrome()).expect("chromedriver names its port")
    }

    fn try_chrome() -> Option<Self> {
        let started = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = started.unwrap_or_else(|error| {
            panic!(
                "chromedriver cannot be started ({error}). This test needs Chromium and its ChromeDriver: run \
                 `cargo xtask test`, or on Debian `apt-get install chromium chromium-driver`"
            )
        });
        let port = lines(&mut driver)
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        if port.is_none() {
            // It has said that it cannot go on.
            drop(driver.wait());
        }
        Some(Self { port: port?, processes: vec![driver] })
    }

    /// The driver of Firefox, which it finds by itself; or else what is missing.
    pub fn firefox() -> Result<Self, String> {
        if !["firefox-esr", "firefox"].into_iter().any(is_installed) {
            return Err("firefox-esr is not installed".to_owned());
        }
        // xtask installs it there.
        let own = workspace().join("target/tools/bin/geckodriver");
        let driver = if own.is_file() { own } else { PathBuf::from("geckodriver") };
        Self::start(&mut Command::new(driver), Vec::new())
    }

    /// The driver of WebKitGTK, and where its browser is; or else what is missing.
    pub fn webkit() -> Result<(Self, PathBuf), String> {
        let browser = mini_browser().ok_or("WebKitGTK's MiniBrowser is not installed")?;
        let screen =
            Command::new("Xvfb").args(["-displayfd", "1"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut screen = screen.map_err(|_| "xvfb is not installed")?;
        let display = lines(&mut screen).next().unwrap_or_default();
        let mut driver = Command::new("WebKitWebDriver");
        Ok((Self::start(driver.env("DISPLAY", format!(":{display}")), vec![screen])?, browser))
    }

    /// Starts a driver that does not say which port it chose on one that is free; its screen is already there.
    fn start(command: &mut Command, mut processes: Vec<Child>) -> Result<Self, String> {
        const START_TIMEOUT: Duration = Duration::from_secs(30);
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("this machine has a free port").port();
        let name = command.get_program().to_string_lossy().into_owned();
        let started = command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        processes.extend(started.ok());
        let driver = Self { port, processes };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > START_TIMEOUT {
                return Err(format!("{name} is not installed, or does not answer"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // After a failed test it matters that the processes end, not how.
        for process in self.processes.iter_mut().rev() {
            process.kill().unwrap_or_default();
            drop(process.wait());
        }
    }
}

fn lines(process: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(process.stdout.take().expect("its output is a pipe")).lines().map_while(Result::ok)
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Debian keeps it with the library, in a folder that names the machine and the version.
fn mini_browser() -> Option<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let libraries = entries(Path::new("/usr/lib")).chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/libexec")]);
    let folders = libraries.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    let mut browsers = folders.filter(|folder| folder.to_string_lossy().contains("/webkit2gtk-"));
    browsers.find_map(|folder| Some(folder.join("MiniBrowser")).filter(|browser| browser.is_file()))
}
