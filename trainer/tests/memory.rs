//! The estimate of the memory that training takes, against what a step takes from the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::{Device, Tensor};
use lddgan_trainer::distributed::Processes;
use lddgan_trainer::gan::{Moments, Setup, Step, Trainer};
use lddgan_trainer::memory::Estimate;
use lddgan_trainer::precision::Precision;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::second_order;

/// The system's heap, which counts what is taken from it.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's heap as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(TAKEN.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// The most bytes that are taken at a time while two steps are made: the second has moments and an average.
fn measured(preset: &Preset, batch: usize) -> u64 {
    let before = TAKEN.load(Relaxed);
    PEAK.store(before, Relaxed);
    let (device, processes) = (&Device::Cpu, &Processes::alone());
    let moments = Moments::standard(preset).unwrap();
    let moments = (preset.generator.gaussian_modes > 0).then_some(&moments);
    let setup = Setup { preset, seed: 0, precision: Precision::F32, device, processes, moments };
    let mut trainer = Trainer::new(&setup).unwrap();
    let size = preset.generator.latent_size;
    let latents = Tensor::full(0.5f32, (batch, preset.generator.latent_channels, size, size), device).unwrap();
    let samples: Vec<u64> = (0..batch as u64).collect();
    for penalty in [false, true] {
        let step = Step { penalty, reconstruction_weight: 0.5, generator_learns: true };
        trainer.step(&latents, 0, 0, &samples, step).unwrap();
    }
    (PEAK.load(Relaxed) - before) as u64
}

/// Small networks with many samples, and large ones with few.
#[test]
fn estimates_are_near_what_steps_take() {
    // SAFETY: the test is alone, and its only other thread waits for it.
    unsafe { second_order::start() };
    for (name, batch) in [("faces64", 4), ("faces64", 16), ("cifar10-slim", 4), ("faces256-chain", 4)] {
        let preset = Preset::load(name).unwrap();
        let estimate = Estimate::of_gan(&preset, Precision::F32).unwrap().bytes(batch);
        let ratio = estimate as f64 / measured(&preset, batch) as f64;
        assert!((0.75..1.25).contains(&ratio), "{name}, batch {batch}: estimated {ratio:.2} times what was measured");
    }
}
