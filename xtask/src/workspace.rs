//! Where this workspace lies, and the tool versions that its files ask for.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the top `Cargo.toml`.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where [`crate::tools`] installs programs: `bin/` below this folder.
///
/// It belongs to the workspace, because the versions do: wasm-bindgen-cli must have exactly the version of
/// this `Cargo.lock`, so in the user's own cargo home it would evict what another project needs.
pub fn tools_dir() -> PathBuf {
    root().join("target").join("tools")
}

/// The version of the `wasm-bindgen` crate in `Cargo.lock`, to which wasm-bindgen-cli must be equal.
pub fn wasm_bindgen_version() -> Result<String> {
    read("Cargo.lock", |text| locked_version(text, "wasm-bindgen"))
}

/// The version of trunk that `Trunk.toml` pins.
pub fn trunk_version() -> Result<String> {
    read("Trunk.toml", pinned_trunk_version)
}

fn read(file: &str, parse: impl Fn(&str) -> Result<String>) -> Result<String> {
    let path = root().join(file);
    fs::read_to_string(&path)
        .map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| format!("cannot use {}", path.display()))
}

fn locked_version(lock: &str, name: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(lock)?;
    let package = lock.package.into_iter().find(|p| p.name == name);
    let package = package.with_context(|| format!("it has no package `{name}`"))?;
    Ok(package.version)
}

fn pinned_trunk_version(trunk: &str) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Trunk {
        trunk_version: String,
    }
    let trunk: Trunk = toml::from_str(trunk)?;
    let version = trunk.trunk_version.strip_prefix('=');
    let version = version.context("`trunk-version` must pin one version, as in \"=0.21.14\"")?;
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "wasm-bindgen-macro"
version = "0.2.99"

[[package]]
name = "wasm-bindgen"
version = "0.2.130"
source = "registry+https://example.org/index"
dependencies = ["wasm-bindgen-macro"]
"#;

    #[test]
    fn locked_version_is_that_of_the_package_with_exactly_this_name() {
        assert_eq!(locked_version(LOCK, "wasm-bindgen").unwrap(), "0.2.130");
        let error = locked_version(LOCK, "wgpu").unwrap_err().to_string();
        assert_eq!(error, "it has no package `wgpu`");
    }

    #[test]
    fn trunk_version_must_be_pinned() {
        let pinned = pinned_trunk_version("trunk-version = \"=0.21.14\"").unwrap();
        assert_eq!(pinned, "0.21.14");
        assert!(pinned_trunk_version("trunk-version = \"0.21\"").is_err());
        assert!(pinned_trunk_version("[build]").is_err());
    }

    #[test]
    fn the_files_of_this_workspace_name_both_versions() {
        let number = |version: String| version.starts_with(|c: char| c.is_ascii_digit());
        assert!(number(wasm_bindgen_version().unwrap()));
        assert!(number(trunk_version().unwrap()));
    }
}
