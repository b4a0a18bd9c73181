//! `cargo xtask cuda`: builds the program and its checks for NVIDIA GPUs, on a machine that need not have one.

use crate::command::{self, command, output};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
#[command(
    after_help = "Takes the toolkit that CUDA_HOME names, or installs one from Python wheels into target/cuda-toolkit \
    (1 GB to download, 1.7 GB on disk; needs python3 with pip, and a C compiler). The first build compiles Candle's \
    kernels, which takes 10 minutes on two cores. The result in target/cuda/check is a folder to take to a machine \
    with a GPU, where `./check.sh` compares results with the CPU's and `./speed.sh` takes times; Rust is not needed there."
)]
pub struct Options {
    /// Compute capability of the GPU to build for, without the point; 90 is Hopper
    #[arg(long, default_value = HOPPER)]
    pub compute_cap: String,
    /// Build for several GPUs at once; the program then needs NCCL where it runs
    #[arg(long)]
    pub nccl: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { compute_cap: HOPPER.to_string(), nccl: false }
    }
}

/// The compute capability of H100 and H200.
const HOPPER: &str = "90";

/// CUDA 13.0: what links with these also runs beside PyTorch 2.11 for CUDA 13.0, and a driver refuses what a later
/// compiler made.
const WHEELS: [&str; 9] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cublas==13.1.0.3",
    "nvidia-curand==10.4.0.35",
    "nvidia-cudnn-cu13==9.19.0.56",
];

/// What runs on the machine with a GPU.
const SCRIPTS: [&str; 4] = ["check.sh", "speed.sh", "steps.sh", "libraries.sh"];

const NCCL_WHEEL: &str = "nvidia-nccl-cu13==2.28.9";

pub fn run(options: &Options) -> Result<()> {
    println!("packed {}: run ./check.sh there on a machine with a GPU", build(options)?.display());
    Ok(())
}

/// The folder with program and checks, newly built.
pub fn build(options: &Options) -> Result<PathBuf> {
    let toolkit = match std::env::var_os("CUDA_HOME") {
        Some(path) => PathBuf::from(path),
        None => installed_toolkit(options.nccl)?,
    };
    let feature = if options.nccl { "nccl" } else { "cuda" };
    let target = workspace::root().join("target/cuda");
    let cargo = |arguments: &str| {
        let mut cargo = command("cargo", []);
        cargo.args(arguments.split_whitespace()).arg("--release");
        with_toolkit(&mut cargo, &toolkit, options).env("CARGO_TARGET_DIR", &target);
        cargo
    };
    command::run(&mut cargo(&format!("build -p lddgan-trainer --features {feature}")))?;
    command::run(&mut cargo("test -p lddgan --lib --features cuda --no-run"))?;
    let tests = output(&mut cargo("test -p lddgan --lib --features cuda --no-run --message-format=json"));
    let tests = tests.as_deref().and_then(test_program).context("cargo does not name the test program")?;
    let folder = target.join("check");
    pack(&folder, &target.join("release/lddgan"), &tests)?;
    Ok(folder)
}

/// The environment that cargo's dependencies find the toolkit by.
fn with_toolkit<'a>(cargo: &'a mut Command, toolkit: &Path, options: &Options) -> &'a mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([toolkit.join("bin")].into_iter().chain(std::env::split_paths(&path)));
    cargo.env("CUDA_HOME", toolkit).env("CUDA_COMPUTE_CAP", &options.compute_cap);
    // NCCL is looked for where the linker looks.
    let libraries = std::env::var_os("LIBRARY_PATH").unwrap_or_default();
    let libraries = [toolkit.join("lib")].into_iter().chain(std::env::split_paths(&libraries));
    cargo.envs(std::env::join_paths(libraries).map(|path| ("LIBRARY_PATH", path)));
    // Candle's kernels for quantised models are linked in, too: 33 MB less.
    cargo.env("NVCC_APPEND_FLAGS", "--compress-mode=size").envs(path.map(|path| ("PATH", path)))
}

/// The toolkit in the target folder; installs it if it is not there.
fn installed_toolkit(nccl: bool) -> Result<PathBuf> {
    let home = workspace::root().join("target/cuda-toolkit");
    let toolkit = home.join("nvidia/cu13");
    if !toolkit.join("lib/stubs/libcuda.so").exists() {
        install(&home, &WHEELS)?;
        complete(&home, &toolkit).context("the toolkit cannot be completed")?;
    }
    let link = toolkit.join("lib/libnccl.so");
    if nccl && !link.exists() {
        // In a folder of its own: pip adds nothing to one that is there.
        install(&home.join("nccl"), &[NCCL_WHEEL])?;
        symlink(home.join("nccl/nvidia/nccl/lib/libnccl.so.2"), link).context("the toolkit cannot be completed")?;
    }
    Ok(toolkit)
}

fn install(home: &Path, wheels: &[&str]) -> Result<()> {
    let mut pip = command("python3", ["-m", "pip", "install", "--no-compile", "--no-deps", "--only-binary=:all:"]);
    command::run(pip.arg("--target").arg(home).args(wheels))
}

/// The wheels lack what only linking needs: names without a version, and the driver's library.
fn complete(home: &Path, toolkit: &Path) -> Result<()> {
    let lib = toolkit.join("lib");
    symlink("lib", toolkit.join("lib64"))?;
    symlink(home.join("nvidia/cudnn/lib/libcudnn.so.9"), lib.join("libcudnn.so.9"))?;
    for name in ["cudart", "nvrtc", "curand", "cublas", "cublasLt", "cudnn"] {
        let name = format!("lib{name}.so");
        let versioned = fs::read_dir(&lib)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let versioned = versioned.into_iter().find(|file| file.starts_with(&format!("{name}.")));
        symlink(versioned.with_context(|| format!("no {name} in the wheels"))?, lib.join(name))?;
    }
    let stubs = lib.join("stubs");
    fs::create_dir_all(&stubs)?;
    let source = stubs.join("cuda.c");
    fs::write(&source, driver_stub(&fs::read_to_string(toolkit.join("include/cuda.h"))?))?;
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
    cc.args(["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-o"]);
    command::run(cc.arg(stubs.join("libcuda.so.1")).arg(&source))?;
    Ok(symlink("libcuda.so.1", stubs.join("libcuda.so"))?)
}

/// A library with the name of every function of the driver, each of which answers that it is a stub (error 34).
fn driver_stub(header: &str) -> String {
    let words = header.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_function = |word: &&str| word.strip_prefix("cu").is_some_and(|rest| rest.starts_with(char::is_uppercase));
    let names: std::collections::BTreeSet<&str> = words.filter(is_function).collect();
    names.into_iter().map(|name| format!("int {name}(void) {{ return 34; }}\n")).collect()
}

/// The executable in cargo's messages.
fn test_program(messages: &str) -> Option<PathBuf> {
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    };
    messages.lines().find_map(executable)
}

/// Puts together what is taken to the machine with a GPU.
fn pack(folder: &Path, program: &Path, tests: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let root = workspace::root();
    let files = [
        (program.to_path_buf(), "lddgan"),
        (tests.to_path_buf(), "operations"),
        (root.join("web/models/faces64.safetensors"), "faces64.safetensors"),
    ];
    let scripts = SCRIPTS.map(|name| (root.join("xtask/gpu-visit").join(name), name));
    for (from, name) in files.into_iter().chain(scripts) {
        let to = folder.join(name);
        fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        if !name.contains('.') {
            let stripped = command("strip", []).arg(&to).status();
            ensure!(stripped.is_ok_and(|status| status.success()), "cannot strip {}", to.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{driver_stub, test_program};
    use std::path::Path;

    #[test]
    fn the_stub_has_each_function_once_and_no_types() {
        let header = "CUresult cuInit(unsigned int Flags);\ntypedef struct CUctx_st *CUcontext;\n#define cuInit cuInit";
        assert_eq!(driver_stub(header), "int cuInit(void) { return 34; }\n");
    }

    #[test]
    fn the_test_program_is_the_message_that_names_one() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/a/lddgan-1\"}\n{\"reason\":\"build-finished\"}";
        assert_eq!(test_program(messages).as_deref(), Some(Path::new("/a/lddgan-1")));
        assert_eq!(test_program("{}"), None);
    }
}
