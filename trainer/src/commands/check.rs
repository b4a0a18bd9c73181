//! `lddgan golden` and `lddgan check`: whether this machine makes of a model what others do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use clap::{Args, Subcommand};
use lddgan::ModelFile;
use lddgan::check::{Golden, Report, StageDifference, Subject, stages};
use lddgan::hash::sha256;
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::loaded_model::LoadedModel;
use lddgan_trainer::precision::Precision;
use lddgan_trainer::say;
use lddgan_trainer::{files, revision};

#[derive(Args)]
pub struct MakeGolden {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// File that gets the tensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Number of images, made from the seeds 0, 1, …
    #[arg(long, default_value_t = 2)]
    count: u64,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Check {
    #[command(subcommand)]
    reports: Option<Reports>,
    #[command(flatten)]
    run: Option<CheckRun>,
}

#[derive(Subcommand)]
enum Reports {
    /// Set two reports side by side
    Compare { a: PathBuf, b: PathBuf },
}

#[derive(Args)]
struct CheckRun {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// What `lddgan golden` recorded; without it, the CPU of this machine is the reference
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Type of the numbers that `--backend cuda` or `candle` computes with; other than f32 are judged by the image alone
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// File that gets the report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A model file's bytes, what it holds, and its name.
fn read(path: &Path) -> Result<(Vec<u8>, ModelFile, String)> {
    let name = path.display().to_string();
    let bytes = files::read(path)?;
    let file = ModelFile::from_bytes(&bytes, &name)?;
    Ok((bytes, file, name))
}

fn record(bytes: &[u8], file: &ModelFile, name: &str, count: u64) -> Result<Golden> {
    let seeds: Vec<u64> = (0..count).collect();
    let model = file.model(name, &Device::Cpu)?;
    let trajectory = model.sample_seeds(&seeds, &Device::Cpu)?;
    let subject = Subject { model: file.provenance.name.clone(), sha256: sha256(bytes), seeds };
    Ok(Golden { stages: stages(&model, &subject.seeds, &trajectory)?, subject })
}

pub fn golden(options: &MakeGolden) -> Result<()> {
    let (bytes, file, name) = read(&options.model)?;
    let golden = record(&bytes, &file, &name, options.count)?.to_bytes()?;
    files::write_atomic(&options.out, &golden)?;
    say!("{} seeds of {name}; wrote {} ({} bytes)", options.count, options.out.display(), golden.len());
    Ok(())
}

pub fn check(options: &Check) -> Result<()> {
    match (&options.reports, &options.run) {
        (Some(Reports::Compare { a, b }), _) => compare(&read_report(a)?, &read_report(b)?),
        (None, Some(run)) => run_check(run),
        (None, None) => anyhow::bail!("say what to check: --model FILE"),
    }
}

fn run_check(options: &CheckRun) -> Result<()> {
    let (bytes, file, name) = read(&options.model)?;
    let golden = match &options.golden {
        Some(path) => Golden::from_bytes(&files::read(path)?, &path.display().to_string())?,
        None => record(&bytes, &file, &name, 2)?,
    };
    ensure!(
        golden.subject.sha256 == sha256(&bytes),
        "{name} is not the model that the golden tensors were made with ({})",
        golden.subject.model
    );
    let mut loaded = LoadedModel::new(&file, &name, options.backend)?;
    loaded.use_precision(options.precision)?;
    let trajectory = loaded.trajectory(&golden.subject.seeds)?;
    let found = stages(&loaded.model, &golden.subject.seeds, &trajectory)?;
    let stages = golden.compare(&found, options.precision.latent_tolerance())?;
    let (limits, features) = loaded.offer();
    let report = Report {
        passed: stages.iter().all(|stage| stage.passed),
        subject: golden.subject,
        executor: executor(options),
        device: loaded.device(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        revision: revision(),
        limits,
        features,
        stages,
    };
    print(&report);
    if let Some(path) = &options.json {
        files::write_atomic(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    ensure!(report.passed, "{} does not compute this model correctly", report.executor);
    Ok(())
}

/// The backend, and the precision if it is not f32.
fn executor(options: &CheckRun) -> String {
    match options.precision {
        Precision::F32 => options.backend.to_string(),
        precision => format!("{}, {precision}", options.backend),
    }
}

fn print(report: &Report) {
    say!("{} on {} ({})", report.subject.model, report.device, report.executor);
    for stage in &report.stages {
        say!("{:12} {}", stage.name, figures(stage));
    }
}

fn figures(stage: &StageDifference) -> String {
    let psnr = stage.psnr.map(|psnr| format!(", {psnr:.1} dB")).unwrap_or_default();
    let verdict = if stage.passed { "passed" } else { "FAILED" };
    format!("{verdict}  largest error {:.1e}, mean {:.1e}{psnr}", stage.max_error, stage.mean_error)
}

fn read_report(path: &Path) -> Result<Report> {
    serde_json::from_slice(&files::read(path)?)
        .with_context(|| format!("{}: not a report of `lddgan check`", path.display()))
}

fn compare(a: &Report, b: &Report) -> Result<()> {
    ensure!(a.subject == b.subject, "the reports are of other models or seeds: {:?} and {:?}", a.subject, b.subject);
    for (letter, report) in [("a", a), ("b", b)] {
        say!("{letter}: {} on {}, {}, revision {}", report.executor, report.device, report.platform, report.revision);
    }
    for stage in &a.stages {
        say!("{:12} a {}", stage.name, figures(stage));
        match b.stages.iter().find(|other| other.name == stage.name) {
            Some(other) => say!("{:12} b {}", "", figures(other)),
            None => say!("{:12} missing in b", ""),
        }
    }
    Ok(())
}
