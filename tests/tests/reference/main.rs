//! Our networks, diffusion and training step against numbers recorded from the authors' PyTorch implementation, and what is
//! not theirs against numbers recorded from its definition.
//!
//! `fixtures/` holds the recordings that always run. Tests of others are ignored: `LDDGAN_FIXTURES` names a folder with all
//! recordings, and `-- --include-ignored` runs them. The WebGPU half needs an adapter; a software one (Mesa's lavapipe) is
//! enough.

mod checkpoints;
mod diffusion;
mod gaussian;
mod gradients;
mod inception;
mod initialisation;
mod lpips;
mod metrics;
mod networks;
mod ops;
mod recorded;
mod sizes;
mod training;
mod wavelet;
