//! What travels to the machine: the tree, and one archive for each call.

use crate::command::{self, command, output};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub const MIB: u64 = 1 << 20;
pub const ARCHIVE: &str = "pack.tar.xz";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Correctness, the start of training, and figures
    First,
    /// Training alone, on the same machine or a new one
    Later,
}

impl Call {
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "call-1",
            Self::Later => "call-2",
        }
    }

    /// What to run there, in the tree's top folder; $OUT is the folder that is brought back.
    pub fn command(self, archive: &Path) -> String {
        let parts = match self {
            Self::First => "--check 70 --speed 70 --webgpu 80 --pytorch 70 --train 10",
            Self::Later => "--train 300",
        };
        let archive = archive.display();
        // Outside of the copied tree, which another call replaces, and not over a program that may still run.
        let there = format!("/tmp/gpu-visit-{}", self.name());
        // Not every machine has xz.
        let unpack = format!("(tar -xJf {archive} -C {there} || python3 -m tarfile -e {archive} {there})");
        format!("mkdir -p {there} && {unpack} && {there}/visit.sh \"$OUT\" {parts}")
    }
}

/// The files and folders of a call's archive. `built` has the program and its checks.
pub fn contents(call: Call, built: &Path, root: &Path, added: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut contents = vec![built.join("lddgan"), root.join("trainer/presets")];
    contents.extend(scripts(&root.join("xtask/gpu-visit"))?);
    if call == Call::First {
        contents.push(built.join("operations"));
        let models = ["faces64", "faces64.golden", "faces256", "faces256.golden"];
        contents.extend(models.map(|name| root.join(format!("web/models/{name}.safetensors"))));
        contents.extend(["pytorch_gpu.py", "pytorch_peer.py"].map(|name| root.join("trainer/benches").join(name)));
    }
    contents.extend_from_slice(added);
    let whole = |path: PathBuf| fs::canonicalize(&path).with_context(|| format!("cannot read {}", path.display()));
    let mut contents = contents.into_iter().map(whole).collect::<Result<Vec<_>>>()?;
    // What is named twice is packed once.
    let mut seen = HashSet::new();
    contents.retain(|path| seen.insert(path.clone()));
    Ok(contents)
}

fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "sh")).collect())
}

/// Puts these into the archive of a folder, each under its own name.
pub fn write(folder: &Path, contents: &[PathBuf]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Two programs with the same kernels are little larger than one if the window spans both.
    let mut tar = command("tar", ["--create", "--dereference", "--use-compress-program=xz -9 -T0", "--file"]);
    tar.arg(folder.join(ARCHIVE));
    for path in contents {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        tar.arg("-C").arg(parent).arg(name);
    }
    command::run(&mut tar).context("the archive needs tar and xz")
}

/// The files that travel with the tree: those that git tracks or does not ignore, as far as they are there.
pub fn travelling(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = command("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = output(git.current_dir(root)).context("git does not list the files of this tree")?;
    let names = list.as_bytes().split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let paths = names.map(|name| root.join(std::ffi::OsStr::from_bytes(name)));
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// Bytes of all of them.
pub fn size(files: &[PathBuf]) -> Result<u64> {
    files.iter().map(|file| Ok(fs::symlink_metadata(file)?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::{ARCHIVE, Call, contents, size, travelling, write};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    const VISIT: &str = include_str!("../../gpu-visit/visit.sh");

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn succeeds(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Checks that fail, and a training that counts its starts in a file that comes back.
    fn scripts(root: &Path) {
        script(&root.join("xtask/gpu-visit/visit.sh"), VISIT);
        let train = "#!/bin/sh\necho start >>\"$1/log\"\n: >\"$1/planned\"\ncp \"$1/log\" \"$1/fetch/log\"\nsleep 30\n";
        script(&root.join("xtask/gpu-visit/train.sh"), train);
        // Figures say whether the training waits meanwhile. A process that waits for a disk stops only afterwards.
        let speed = r#"#!/bin/sh
state() { ps -o stat= -p "$(cat "$GPU_VISIT_RUN/train.pid")"; }
tries=0
until state | grep -q ^T || [ $tries = 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
echo "training is $(state)"
"#;
        script(&root.join("xtask/gpu-visit/speed.sh"), speed);
        script(
            &root.join("xtask/gpu-visit/check.sh"),
            "#!/bin/sh\nmkdir -p \"$1\"\necho sum >\"$1/figures\"\nexit 3\n",
        );
    }

    fn visit(folder: &Path, out: &Path, run: &Path, options: &str) -> String {
        let mut visit = Command::new(folder.join("visit.sh"));
        succeeds(visit.arg(out).args(options.split(' ')).env("GPU_VISIT_RUN", run))
    }

    #[test]
    fn the_archive_of_a_call_has_all_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let (root, built) = (folder.path().join("tree"), folder.path().join("built"));
        scripts(&root);
        script(&built.join("lddgan"), "program");
        script(&root.join("trainer/presets/tiny.toml"), "name = 1");
        let added = folder.path().join("latents");
        script(&added, "latents");
        let list = contents(Call::Later, &built, &root, &[added.clone(), added]).unwrap();
        let out = folder.path().join("call");
        write(&out, &list).unwrap();
        let listed = succeeds(Command::new("tar").arg("-tf").arg(out.join(ARCHIVE)));
        for name in ["lddgan", "presets/tiny.toml", "visit.sh", "train.sh", "latents"] {
            assert_eq!(listed.lines().filter(|line| *line == name).count(), 1, "{name} in {listed}");
        }
        let error = contents(Call::First, &built, &root, &[]).unwrap_err();
        assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
    }

    /// The whole visit at toy size: two calls on one machine, and one on another that has what the first brought back.
    #[test]
    fn training_goes_on_between_calls_and_on_another_machine() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        scripts(&at("tree"));
        fs::create_dir(at("pack")).unwrap();
        for name in ["visit.sh", "train.sh", "check.sh", "speed.sh"] {
            fs::copy(at("tree/xtask/gpu-visit").join(name), at("pack").join(name)).unwrap();
        }
        let first = visit(&at("pack"), &at("out"), &at("run"), "--check 20 --speed 20 --train 1");
        let order = ["the check failed", "training starts", "training is T", "done"].map(|said| first.find(said));
        assert!(order.is_sorted() && order[0].is_some(), "{first}");
        assert_eq!(fs::read_to_string(at("run/results/check.status")).unwrap().trim(), "3");
        assert_eq!(fs::read_to_string(at("run/results/check/figures")).unwrap(), "sum\n");
        assert_eq!(fs::read_to_string(at("out/log")).unwrap(), "start\n");
        assert!(size(&[at("out/results.tar.gz")]).unwrap() > 0);
        let second = visit(&at("pack"), &at("out"), &at("run"), "--train 1");
        assert!(second.contains("training goes on") && !second.contains("training starts"), "{second}");
        let pid = fs::read_to_string(at("run/train.pid")).unwrap();
        let state = succeeds(Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]));
        assert!(!state.starts_with('T'), "it still waits: {state}");
        stop(&at("run"));
        fs::create_dir(at("pack/run")).unwrap();
        fs::copy(at("out/log"), at("pack/run/log")).unwrap();
        visit(&at("pack"), &at("out"), &at("elsewhere"), "--train 1");
        stop(&at("elsewhere"));
        assert_eq!(fs::read_to_string(at("out/log")).unwrap(), "start\nstart\n");
    }

    fn stop(run: &Path) {
        let pid = fs::read_to_string(run.join("train.pid")).unwrap();
        succeeds(Command::new("kill").arg("--").arg(format!("-{}", pid.trim())));
    }

    #[test]
    fn ignored_files_do_not_travel() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [(".gitignore", "ignored"), ("tracked", "12345"), ("ignored", "1234567"), ("new", "123")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let git = |arguments: &[&str]| succeeds(Command::new("git").args(arguments).current_dir(folder.path()));
        git(&["init", "-q"]);
        git(&["add", "tracked"]);
        assert_eq!(size(&travelling(folder.path()).unwrap()).unwrap(), 7 + 5 + 3);
        fs::remove_file(folder.path().join("tracked")).unwrap();
        assert_eq!(size(&travelling(folder.path()).unwrap()).unwrap(), 7 + 3);
    }
}
