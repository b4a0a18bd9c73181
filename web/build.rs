//! Lists the models that come with the page, for it to choose from.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=models");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    let files = fs::read_dir("models")?.collect::<io::Result<Vec<_>>>()?;
    let names = files.iter().filter_map(|file| {
        let name = file.file_name().into_string().ok()?.strip_suffix(".safetensors")?.to_owned();
        (!name.ends_with(".golden")).then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    fs::write(out.join("models.in"), format!("{names:?}"))
}
