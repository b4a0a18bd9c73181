//! Installing what [`crate::tools`] lists and this machine lacks.

use crate::command::{command, output, run};
use crate::tools::{CrateSource, PackageSource, Purpose, Source, Tool, find_program, tools};
use crate::workspace;
use anyhow::{Result, bail, ensure};
use std::fs;

/// What to do about missing packages of the operating system, which others on this machine use too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Packages {
    /// Fail, and name them.
    Name,
    Install,
}

/// Installs every tool for `purpose` that is missing or of another version than wanted.
///
/// Fails with instructions if that cannot or must not be done from here: a package of the operating system, which only
/// [`Packages::Install`] allows, and only root on Debian or Ubuntu can; or no rustup.
pub fn install_missing(purpose: Purpose, allowed: Packages) -> Result<()> {
    let lacking = tools()?.into_iter();
    let lacking = lacking.filter(|tool| tool.purpose <= purpose && !tool.is_found());
    let (packages, others): (Vec<_>, Vec<_>) = lacking.partition(|tool| package(tool).is_some());
    // Packages first: they may fail, and do so quickly.
    for tool in &packages {
        println!("{} is missing; the tests need it.", tool.name);
    }
    install_packages(packages.iter().filter_map(package).collect(), allowed)?;
    packages.iter().try_for_each(check)?;
    for tool in &others {
        match &tool.source {
            Source::Rustup(args) => install_with_rustup(*args)?,
            Source::Crate(source) => install_crate(source)?,
            Source::Package(_) => {}
        }
        check(tool)?;
    }
    Ok(())
}

fn check(tool: &Tool) -> Result<()> {
    ensure!(tool.is_found(), "{} cannot be used although it was installed; get it by hand: {}", tool.name, tool.source);
    Ok(())
}

fn install_with_rustup(args: [&str; 3]) -> Result<()> {
    ensure!(
        find_program("rustup").is_some(),
        "`rustup {}` is needed, but there is no rustup; get it from https://rustup.rs",
        args.join(" ")
    );
    run(&mut command("rustup", args))
}

/// Installs one program without what this workspace never uses: TLS, by which trunk would download tools and look for
/// a newer self. The program works for seconds, so it is built quickly rather than well.
fn install_crate(source: &CrateSource) -> Result<()> {
    let package = format!("{}@{}", source.package, source.version);
    println!("Installing {package}: this takes some minutes, once.");
    let mut cargo = command("cargo", ["install", &package, "--no-default-features"]);
    cargo.args(["--bin", source.program]);
    cargo.arg("--root").arg(workspace::tools_dir());
    cargo.args(source.locked.then_some("--locked"));
    cargo.envs([
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ]);
    run(&mut cargo)
}

fn install_packages(packages: Vec<&PackageSource>, allowed: Packages) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let name: fn(&&PackageSource) -> &'static str = match distribution() {
        Some(Distribution::Debian) => |package| package.debian,
        Some(Distribution::Ubuntu) => |package| package.ubuntu,
        None => {
            let list = packages.iter().map(|package| format!("\n- {}", package.elsewhere));
            bail!("do by hand what the tests need:{}", list.collect::<String>())
        }
    };
    let names: Vec<_> = packages.iter().map(name).collect();
    let names = names.join(" ");
    ensure!(
        allowed == Packages::Install,
        "packages are missing; as root, `cargo xtask test --install` installs them, or by hand:\n\
         sudo apt-get install --no-install-recommends {names}"
    );
    ensure!(
        is_root(),
        "only root can install packages that the tests need; run this first:\n\
         sudo apt-get install --no-install-recommends {names}"
    );
    println!("Installing {names}");
    run(&mut command("apt-get", ["update"]))?;
    let mut install = command("apt-get", ["install", "--yes", "--no-install-recommends"]);
    run(install.args(names.split(' ')).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A system whose packages have names that we know.
#[derive(Debug, PartialEq)]
enum Distribution {
    Debian,
    Ubuntu,
}

fn distribution() -> Option<Distribution> {
    find_program("apt-get")?;
    distribution_in(&fs::read_to_string("/etc/os-release").ok()?)
}

/// Reads the `ID` of an os-release file, then its `ID_LIKE`, which lists what the system derives from, nearest first.
fn distribution_in(os_release: &str) -> Option<Distribution> {
    let value = |key: &str| os_release.lines().find_map(|line| line.strip_prefix(key));
    let ids = [value("ID="), value("ID_LIKE=")];
    let ids = ids.into_iter().flatten().map(|value| value.trim_matches('"'));
    ids.flat_map(str::split_whitespace).find_map(|id| match id {
        "debian" => Some(Distribution::Debian),
        "ubuntu" => Some(Distribution::Ubuntu),
        _ => None,
    })
}

fn is_root() -> bool {
    output(&mut command("id", ["-u"])).as_deref() == Some("0")
}

fn package(tool: &Tool) -> Option<&PackageSource> {
    match &tool.source {
        Source::Package(source) => Some(source),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, distribution_in};

    #[test]
    fn distribution_is_read_from_id_before_id_like() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(distribution_in(debian), Some(Distribution::Debian));
        let ubuntu = "ID=ubuntu\nID_LIKE=debian\n";
        assert_eq!(distribution_in(ubuntu), Some(Distribution::Ubuntu));
        let mint = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
        assert_eq!(distribution_in(mint), Some(Distribution::Ubuntu));
        assert_eq!(distribution_in("ID=fedora\n"), None);
        assert_eq!(distribution_in(""), None);
    }
}
