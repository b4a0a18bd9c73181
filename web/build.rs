//! Lists the models that come with the page, for the page to choose from.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=models");
    let files = fs::read_dir("models")?.collect::<io::Result<Vec<_>>>()?;
    let names = files.iter().filter_map(|file| {
        let name = file.file_name().into_string().ok()?.strip_suffix(".safetensors")?.to_owned();
        (!name.ends_with(".golden")).then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("models.in"), format!("{names:?}"))
}
