//! A browser that nobody sees, driven as WebDriver says: Chromium, or one of another maker.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, thread};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::driver::Driver;

/// No network but ours, and WebGPU on the CPU.
const ARGUMENTS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    // Without OpenGL, on the CPU too, what WebGPU draws on a canvas takes the whole GPU process down.
    "--use-angle=gl-egl",
    "--ignore-gpu-blocklist",
];

/// How long anything may take before a test gives up on it; it bounds a failure and decides nothing else.
const PAGE_TIMEOUT: Duration = Duration::from_secs(240);

/// The folder of downloads in a browser's own.
const DOWNLOADS: &str = "downloads";

/// One tab of a browser that has its own profile and its own folder of downloads.
pub struct Browser {
    runtime: Runtime,
    client: Option<Client>,
    /// Ends after the client.
    _driver: Driver,
    folder: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        Self::with(&[], json!({}))
    }

    /// With further arguments and preferences.
    pub fn with(arguments: &[&str], preferences: Value) -> Self {
        let folder = temporary_folder();
        let arguments = ARGUMENTS.iter().chain(arguments).map(ToString::to_string);
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let mut all = json!({
            "download.default_directory": folder.path().join(DOWNLOADS),
            "download.prompt_for_download": false,
            "profile.default_content_setting_values.automatic_downloads": 1,
        });
        for (name, value) in preferences.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let arguments: Vec<String> = arguments.chain([profile]).collect();
        let options = json!({ "args": arguments, "prefs": all });
        let capabilities = json!({
            "browserName": "chrome",
            // What a page preloads may never come.
            "pageLoadStrategy": "eager",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        Self::connect(Driver::chrome(), folder, capabilities)
    }

    /// Firefox, if it is installed; otherwise what is missing.
    pub fn firefox() -> Result<Self, String> {
        let capabilities = json!({ "browserName": "firefox", "moz:firefoxOptions": { "args": ["-headless"] } });
        Ok(Self::connect(Driver::firefox()?, temporary_folder(), capabilities))
    }

    /// WebKitGTK's own browser, if it is installed; otherwise what is missing.
    pub fn webkit() -> Result<Self, String> {
        let (driver, browser) = Driver::webkit()?;
        let options = json!({ "binary": browser, "args": ["--automation"] });
        Ok(Self::connect(driver, temporary_folder(), json!({ "webkitgtk:browserOptions": options })))
    }

    fn connect(driver: Driver, folder: TempDir, capabilities: Value) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
        let Value::Object(capabilities) = capabilities else { unreachable!("it is written as an object") };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let connected = runtime.block_on(builder.connect(&format!("http://127.0.0.1:{}", driver.port)));
        let client = connected.expect("the driver starts its browser: both of versions that fit must be installed");
        Self { runtime, client: Some(client), _driver: driver, folder }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("the client lives as long as the browser")
    }

    /// Where saved files go.
    pub fn downloads(&self) -> PathBuf {
        self.folder.path().join(DOWNLOADS)
    }

    pub fn open(&self, address: &str) {
        self.runtime.block_on(self.client().goto(address)).expect("the page opens");
    }

    pub fn address(&self) -> String {
        self.runtime.block_on(self.client().current_url()).expect("the page has an address").to_string()
    }

    pub fn reload(&self) {
        self.runtime.block_on(self.client().refresh()).expect("the page opens again");
    }

    pub fn back(&self) {
        self.runtime.block_on(self.client().back()).expect("there is a page to go back to");
    }

    /// Runs a function body of JavaScript.
    pub fn run(&self, script: &str) -> Value {
        let result = self.runtime.block_on(self.client().execute(script, Vec::new()));
        result.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text that the element shows.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({}).innerText", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// What a list of facts says of a term; empty if nothing.
    pub fn fact(&self, list: &str, term: &str) -> String {
        let facts = format!("[...document.querySelectorAll({})]", json!(format!("{list} > div")));
        let fact = format!("{facts}.find((fact) => fact.firstChild.textContent === {})", json!(term));
        self.run(&format!("return {fact}?.lastChild.textContent")).as_str().unwrap_or_default().to_owned()
    }

    pub fn click(&self, selector: &str) {
        let click = async { self.client().find(Locator::Css(selector)).await?.click().await };
        self.runtime.block_on(click).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Types keys into the element.
    pub fn press(&self, selector: &str, keys: &str) {
        let press = async { self.client().find(Locator::Css(selector)).await?.send_keys(keys).await };
        self.runtime.block_on(press).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Types keys into what has the focus.
    pub fn type_keys(&self, keys: &str) {
        let press = async { self.client().active_element().await?.send_keys(keys).await };
        self.runtime.block_on(press).unwrap_or_else(|error| panic!("{keys:?}: {error}"));
    }

    /// The bytes of a file that the page saved.
    pub fn downloaded(&self, name: &str) -> Vec<u8> {
        let path = self.downloads().join(name);
        // Chromium keeps the name free with an empty file, which it replaces by the whole one.
        let is_whole = || fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        self.wait(&format!("the download of {name}"), is_whole);
        fs::read(path).expect("a file that was downloaded can be read")
    }

    /// Waits until something is true.
    pub fn wait(&self, what: &str, reached: impl Fn() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(
                start.elapsed() < PAGE_TIMEOUT,
                "waited {PAGE_TIMEOUT:?} in vain for {what}; the page:\n{}",
                self.text("body")
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes every page lose its GPU.
    pub fn crash_gpu(&self) {
        self.devtools("Browser.crashGpuProcess", json!({}));
    }

    /// Lets pages do this without asking the user.
    pub fn allow(&self, permissions: &[&str]) {
        self.devtools("Browser.grantPermissions", json!({ "permissions": permissions }));
    }

    /// Runs this JavaScript in every page from now on, before the page's own.
    pub fn in_every_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Shows pages as on a device of this width, with these preferences of its user.
    pub fn emulate(&self, width: usize, preferences: &[(&str, &str)]) {
        self.emulate_size(width, 740, preferences);
    }

    /// The same, with a height.
    pub fn emulate_size(&self, width: usize, height: usize, preferences: &[(&str, &str)]) {
        let features: Vec<Value> =
            preferences.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The errors in the console since the last call: of the page, of what it loads, and of what its policy forbids.
    pub fn errors(&self) -> Vec<String> {
        let entries = self.command("se/log", json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let errors = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        errors.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A command of the DevTools protocol.
    fn devtools(&self, name: &str, parameters: Value) {
        self.command("goog/cdp/execute", json!({ "cmd": name, "params": parameters }));
    }

    /// A command that only ChromeDriver knows.
    fn command(&self, name: &'static str, body: Value) -> Value {
        let answer = self.runtime.block_on(self.client().issue_cmd(Command { name, body }));
        answer.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After a failed test it matters that the browser ends, not how.
        if let Some(client) = self.client.take() {
            self.runtime.block_on(client.close()).unwrap_or_default();
        }
    }
}

fn temporary_folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a temporary folder")
}

#[derive(Debug)]
struct Command {
    /// Its address below that of the session.
    name: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.name))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
