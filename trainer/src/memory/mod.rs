//! What fits into memory, and what to say when it does not.

mod training;

use anyhow::{Result, bail};
use lddgan::Model;

use crate::backend::BackendName;

pub use training::Estimate;

/// Bytes of the machine's memory that this program can still take, of a container's if that has less; `None` where the
/// system does not say.
pub fn available() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let machine = Some(system.available_memory()).filter(|&bytes| bytes > 0);
    let container = system.cgroup_limits().map(|limits| limits.free_memory);
    machine.into_iter().chain(container).min()
}

/// Whether so many images can be made at a time on the CPU in so many bytes of memory. The error says how many can.
pub fn check_batch(model: &Model, backend: BackendName, batch: usize, available: u64) -> Result<()> {
    let bytes = |batch: usize| sampling_bytes(model, backend, batch);
    let needed = bytes(batch)?;
    if needed <= available {
        return Ok(());
    }
    let (needed, available_gib) = (gib(needed), gib(available));
    let images = if batch == 1 { "one image".to_string() } else { format!("{batch} images at a time") };
    let said = format!("{images} would take about {needed} of memory, but only {available_gib} is free");
    let (mut fits, mut too_many) = (0, batch);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if bytes(middle)? <= available { fits = middle } else { too_many = middle }
    }
    match fits {
        0 => bail!("{said}: even one does not fit"),
        fits => bail!("{said}: --batch {fits} fits"),
    }
}

/// Bytes that it takes at most to make so many images: with Candle, without its weights, which are there; compiled, with
/// those that are packed for it. Beyond some, each image takes as much as the one before.
fn sampling_bytes(model: &Model, backend: BackendName, batch: usize) -> Result<u64> {
    const SOME: usize = 64;
    let bytes = |batch: usize| -> Result<u64> {
        let graph = model.record(batch)?;
        Ok(if backend == BackendName::Cpu { lddgan_cpu::Executor::bytes_of(&graph)? } else { graph.bytes() })
    };
    if batch <= SOME {
        return bytes(batch);
    }
    let some = bytes(SOME)?;
    let each = some.saturating_sub(bytes(SOME - 1)?);
    Ok(each.saturating_mul((batch - SOME) as u64).saturating_add(some))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lddgan::networks::{Decoder, Generator};
    use lddgan::parameters::Parameters;

    use crate::preset::Preset;

    #[test]
    fn batches_that_do_not_fit_are_refused_with_the_largest_that_does() {
        let config = Preset::load("faces64").unwrap().model_config();
        let parameters = Parameters::new(0, &Device::Cpu);
        let vb = parameters.var_builder();
        let generator = Generator::new(vb.pp("generator"), &config.generator).unwrap();
        let decoder = Decoder::new(vb.pp("decoder"), &config.autoencoder).unwrap();
        let model = Model::new(config, generator, decoder, &Device::Cpu).unwrap();
        assert_eq!(sampling_bytes(&model, BackendName::Candle, 100).unwrap(), model.record(100).unwrap().bytes());
        for backend in [BackendName::Candle, BackendName::Cpu] {
            let bytes = |batch: usize| sampling_bytes(&model, backend, batch).unwrap();
            assert!(check_batch(&model, backend, 16, bytes(16)).is_ok());
            let error =
                |batch: usize, available: u64| check_batch(&model, backend, batch, available).unwrap_err().to_string();
            let said = error(100, bytes(7));
            assert!(said.contains("100 images at a time") && said.ends_with("--batch 7 fits"), "{said}");
            assert!(error(usize::MAX >> 40, bytes(13) + 1).ends_with("--batch 13 fits"));
            assert!(error(1, bytes(1) - 1).ends_with("even one does not fit"));
        }
    }
}
