//! Prepares the kernels that the crate includes: without their comments, which would be downloaded with the page.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    const KERNELS: &str = "src/executor/kernels";
    println!("cargo::rerun-if-changed={KERNELS}");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    for file in fs::read_dir(KERNELS)? {
        let file = file?;
        // Lines keep their numbers, which errors name.
        let code = |line: &str| line.split("//").next().unwrap_or_default().trim_end().to_owned() + "\n";
        let text: String = fs::read_to_string(file.path())?.lines().map(code).collect();
        fs::write(out.join(file.file_name()), text)?;
    }
    Ok(())
}
