//! Training on whole chains of steps, from noise to x_0, as samples are made.

mod augment;
mod draws;
mod inputs;
mod judge;
mod pass;
mod picture;

pub use draws::{ChainDrawing, ChainDraws};
pub use inputs::ChainInputs;
pub use judge::PictureJudge;
pub use picture::LinearPicture;
