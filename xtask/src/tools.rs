//! The tools that the commands need: one table of what they are, how each is found and where it comes from.

use crate::command::{command, output};
use crate::workspace;
use anyhow::{Context, Result};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What a tool is needed for. The tests need the page too, so `Page < Tests`; some of them are not run where what they need
/// is missing, which `EveryTest` has too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Page,
    Tests,
    EveryTest,
}

pub struct Tool {
    pub name: &'static str,
    pub purpose: Purpose,
    finder: Finder,
    pub source: Source,
}

/// How a tool is found.
enum Finder {
    /// A program, under one of these names, that answers `--version`.
    Program(&'static [&'static str]),
    /// A program that does not tell its version so.
    Place(&'static str),
    WasmTarget,
    VulkanSoftwareDriver,
    EglDriver,
    OpenMpi,
    LibClang,
}

/// Where a tool comes from.
pub enum Source {
    /// rustup, with these arguments.
    Rustup([&'static str; 3]),
    /// A crate, installed into [`workspace::tools_dir`].
    Crate(CrateSource),
    /// A package of the operating system.
    Package(PackageSource),
}

pub struct CrateSource {
    pub package: &'static str,
    /// The one program of the package that is needed.
    pub program: &'static str,
    pub version: String,
    /// Whether to build with the dependencies of the package's own `Cargo.lock`.
    pub locked: bool,
}

pub struct PackageSource {
    pub debian: &'static str,
    pub ubuntu: &'static str,
    /// What to do on any other system.
    pub elsewhere: &'static str,
}

pub enum State {
    /// There, with its version or place.
    Found(String),
    /// There, but of this other version.
    Mismatch(String),
    Missing,
}

/// Every tool of every command.
pub fn tools() -> Result<Vec<Tool>> {
    Ok(vec![
        Tool {
            name: "Rust",
            purpose: Purpose::Page,
            finder: Finder::Program(&["rustc"]),
            source: Source::Rustup(["toolchain", "install", "--no-self-update"]),
        },
        Tool {
            name: "wasm32 target",
            purpose: Purpose::Page,
            finder: Finder::WasmTarget,
            source: Source::Rustup(["target", "add", WASM_TARGET]),
        },
        Tool {
            name: "trunk",
            purpose: Purpose::Page,
            finder: Finder::Program(&["trunk"]),
            source: Source::Crate(CrateSource {
                package: "trunk",
                program: "trunk",
                version: workspace::trunk_version()?,
                locked: true,
            }),
        },
        Tool {
            name: "wasm-bindgen",
            purpose: Purpose::Page,
            finder: Finder::Program(&["wasm-bindgen"]),
            source: Source::Crate(CrateSource {
                package: "wasm-bindgen-cli",
                program: "wasm-bindgen",
                version: workspace::wasm_bindgen_version()?,
                // Its lock file is as new as its release: it may name crates that a registry mirror has not yet.
                locked: false,
            }),
        },
        Tool {
            name: "rustfmt",
            purpose: Purpose::Tests,
            finder: Finder::Program(&["cargo-fmt"]),
            source: Source::Rustup(["component", "add", "rustfmt"]),
        },
        Tool {
            name: "clippy",
            purpose: Purpose::Tests,
            finder: Finder::Program(&["cargo-clippy"]),
            source: Source::Rustup(["component", "add", "clippy"]),
        },
        Tool {
            name: "Chromium",
            purpose: Purpose::Tests,
            finder: Finder::Program(BROWSERS),
            source: Source::Package(PackageSource {
                debian: "chromium",
                ubuntu: "chromium-browser",
                elsewhere: "install Chromium or Google Chrome and put it on PATH",
            }),
        },
        Tool {
            name: "ChromeDriver",
            purpose: Purpose::Tests,
            finder: Finder::Program(&["chromedriver"]),
            source: Source::Package(PackageSource {
                debian: "chromium-driver",
                ubuntu: "chromium-chromedriver",
                elsewhere: "install the ChromeDriver of the browser's version and put it on PATH \
                            (https://googlechromelabs.github.io/chrome-for-testing)",
            }),
        },
        Tool {
            name: "Firefox",
            purpose: Purpose::EveryTest,
            finder: Finder::Program(&["firefox-esr", "firefox"]),
            source: Source::Package(PackageSource {
                debian: "firefox-esr",
                ubuntu: "firefox",
                elsewhere: "install Firefox and put it on PATH",
            }),
        },
        Tool {
            name: "geckodriver",
            purpose: Purpose::EveryTest,
            finder: Finder::Program(&["geckodriver"]),
            source: Source::Crate(CrateSource {
                package: "geckodriver",
                program: "geckodriver",
                version: "0.37.1".to_owned(),
                locked: true,
            }),
        },
        Tool {
            name: "WebKitGTK",
            purpose: Purpose::EveryTest,
            finder: Finder::Place("WebKitWebDriver"),
            source: Source::Package(PackageSource {
                debian: "webkit2gtk-driver",
                ubuntu: "webkit2gtk-driver",
                elsewhere: "install WebKitGTK with its MiniBrowser and put WebKitWebDriver on PATH",
            }),
        },
        Tool {
            name: "Xvfb",
            purpose: Purpose::EveryTest,
            finder: Finder::Place("Xvfb"),
            source: Source::Package(PackageSource {
                debian: "xvfb",
                ubuntu: "xvfb",
                elsewhere: "install Xvfb, on which WebKitGTK's browser draws, and put it on PATH",
            }),
        },
        Tool {
            name: "Node",
            purpose: Purpose::EveryTest,
            finder: Finder::Place("node"),
            source: Source::Package(PackageSource {
                debian: "nodejs",
                ubuntu: "nodejs",
                elsewhere: "install Node 18 or newer and put it on PATH",
            }),
        },
        Tool {
            name: "Vulkan software driver",
            purpose: Purpose::Tests,
            finder: Finder::VulkanSoftwareDriver,
            source: Source::Package(PackageSource {
                debian: "mesa-vulkan-drivers",
                ubuntu: "mesa-vulkan-drivers",
                elsewhere: "install the Vulkan loader and Mesa's lavapipe driver \
                            (Fedora: mesa-vulkan-drivers, Arch: vulkan-swrast)",
            }),
        },
        Tool {
            name: "OpenGL software driver",
            purpose: Purpose::Tests,
            finder: Finder::EglDriver,
            source: Source::Package(PackageSource {
                debian: "libegl1",
                ubuntu: "libegl1",
                elsewhere: "install Mesa's EGL driver, by which Chromium draws on canvases \
                            (Fedora: mesa-libEGL, Arch: mesa)",
            }),
        },
        Tool {
            name: "Open MPI",
            purpose: Purpose::Tests,
            finder: Finder::OpenMpi,
            source: Source::Package(PackageSource {
                debian: "libopenmpi-dev",
                ubuntu: "libopenmpi-dev",
                elsewhere: "install Open MPI with its headers, and put mpicc and mpirun on PATH",
            }),
        },
        Tool {
            name: "libclang",
            purpose: Purpose::Tests,
            finder: Finder::LibClang,
            source: Source::Package(PackageSource {
                debian: "libclang-dev",
                ubuntu: "libclang-dev",
                elsewhere: "install LLVM's libclang, and name its folder in LIBCLANG_PATH",
            }),
        },
    ])
}

pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

const BROWSERS: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

impl Tool {
    pub fn state(&self) -> State {
        match (self.finder.find(), &self.source) {
            (None, _) => State::Missing,
            (Some(found), Source::Crate(wanted)) if found != wanted.version => State::Mismatch(found),
            (Some(found), _) => State::Found(found),
        }
    }

    pub fn is_found(&self) -> bool {
        matches!(self.state(), State::Found(_))
    }
}

impl Finder {
    /// The version of what is found, or its place if it has no version.
    fn find(&self) -> Option<String> {
        match self {
            Self::Program(names) => program_version(names),
            Self::Place(name) => find_program(name).map(|path| path.display().to_string()),
            Self::WasmTarget => wasm_target_folder(),
            Self::VulkanSoftwareDriver => driver_file("vulkan/icd.d", "/lvp_icd"),
            Self::EglDriver => driver_file("glvnd/egl_vendor.d", "_mesa"),
            // The compiler comes with the headers, and mpirun with both.
            Self::OpenMpi => find_program("mpicc").and_then(|_| program_version(&["mpirun"])),
            Self::LibClang => libclang(),
        }
    }
}

/// The search path: the tools that xtask installed come before the user's own.
pub fn search_path() -> Result<OsString> {
    let own = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(workspace::tools_dir().join("bin")).chain(env::split_paths(&own));
    env::join_paths(folders).context("the workspace's path cannot be a part of PATH")
}

/// The first program of this name on the [`search_path`].
pub fn find_program(name: &str) -> Option<PathBuf> {
    which::which_in(name, Some(search_path().ok()?), workspace::root()).ok()
}

fn program_version(names: &[&str]) -> Option<String> {
    let program = names.iter().find_map(|name| find_program(name))?;
    let answer = output(&mut command(program, ["--version"]))?;
    version_in(&answer).map(str::to_owned)
}

/// The first word that starts with a digit.
fn version_in(answer: &str) -> Option<&str> {
    answer.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

fn wasm_target_folder() -> Option<String> {
    let mut rustc = command("rustc", ["--print=target-libdir", "--target", WASM_TARGET]);
    output(&mut rustc).filter(|folder| Path::new(folder).is_dir())
}

/// The manifest by which a loader finds a driver, in a folder of the system's.
fn driver_file(folder: &str, name: &str) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("not needed: Metal or Direct3D 12 is used here".to_owned());
    }
    let parents = ["/usr/share", "/usr/local/share", "/etc"];
    let files = parents.iter().flat_map(|parent| fs::read_dir(Path::new(parent).join(folder))).flatten().flatten();
    let mut paths = files.map(|file| file.path().display().to_string());
    paths.find(|path| path.contains(name))
}

/// The library by which bindgen reads the headers of MPI, where it looks for it itself.
fn libclang() -> Option<String> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let versions = entries(Path::new("/usr/lib")).map(|folder| folder.join("lib"));
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/opt/llvm/lib"].map(PathBuf::from);
    let mut folders = env::var_os("LIBCLANG_PATH").map(PathBuf::from).into_iter().chain(versions).chain(usual);
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libclang.") || name.starts_with("libclang-") && !name.starts_with("libclang-cpp")
    };
    folders.find_map(|folder| entries(&folder).find(is_library)).map(|path| path.display().to_string())
}

/// What to do to get the tool.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Rustup(args) => write!(f, "rustup {}", args.join(" ")),
            Self::Crate(source) => {
                let CrateSource { package, version, .. } = source;
                write!(f, "cargo install {package}@{version}")?;
                f.write_str(if source.locked { " --locked" } else { "" })
            }
            Self::Package(source) => {
                let PackageSource { debian, ubuntu, .. } = source;
                write!(f, "apt-get install {debian}")?;
                if ubuntu != debian {
                    write!(f, " (Ubuntu: {ubuntu})")?;
                }
                write!(f, "; elsewhere: {}", source.elsewhere)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn version_is_found_in_the_answers_of_all_tools() {
        let answers = [
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            ("trunk 0.21.14", "0.21.14"),
            ("wasm-bindgen 0.2.130", "0.2.130"),
            ("rustfmt 1.9.0-stable (59807616e1 2026-04-14)", "1.9.0-stable"),
            ("Chromium 140.0.7339.80 built on Debian GNU/Linux 12", "140.0.7339.80"),
            ("Google Chrome 140.0.7339.80", "140.0.7339.80"),
            ("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/", "4.1.4"),
        ];
        for (answer, version) in answers {
            assert_eq!(version_in(answer), Some(version));
        }
        assert_eq!(version_in("error: no such command"), None);
        assert_eq!(version_in(""), None);
    }
}
