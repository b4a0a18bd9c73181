//! Prepares what the crate includes: a list of the models that come with the page, and the kernels without their comments.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    list_models(&out)?;
    strip_kernels(&out)
}

/// For the page to choose from.
fn list_models(out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed=models");
    let files = fs::read_dir("models")?.collect::<io::Result<Vec<_>>>()?;
    let names = files.iter().filter_map(|file| {
        let name = file.file_name().into_string().ok()?.strip_suffix(".safetensors")?.to_owned();
        (!name.ends_with(".golden")).then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    fs::write(out.join("models.in"), format!("{names:?}"))
}

/// Comments would be downloaded with the page. Lines keep their numbers, which errors name.
fn strip_kernels(out: &Path) -> io::Result<()> {
    const KERNELS: &str = "src/executor/kernels";
    println!("cargo::rerun-if-changed={KERNELS}");
    for file in fs::read_dir(KERNELS)? {
        let file = file?;
        let code = |line: &str| line.split("//").next().unwrap_or_default().trim_end().to_owned() + "\n";
        let text: String = fs::read_to_string(file.path())?.lines().map(code).collect();
        fs::write(out.join(file.file_name()), text)?;
    }
    Ok(())
}
