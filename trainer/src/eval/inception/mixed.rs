//! The eleven mixed blocks.

use candle_core::Result;
use candle_nn::VarBuilder;

use super::block::Part::{self, Conv, Halving, Split};
use super::block::{Mixed, Pool};

/// 1 x 1, 5 x 5 and two 3 x 3.
pub fn mixed_5(vb: VarBuilder, inputs: usize, pooled: usize) -> Result<Mixed> {
    let branches: [&[Part]; 3] = [
        &[Conv("branch1x1", 64, (1, 1))],
        &[Conv("branch5x5_1", 48, (1, 1)), Conv("branch5x5_2", 64, (5, 5))],
        &[Conv("branch3x3dbl_1", 64, (1, 1)), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))],
    ];
    Mixed::new(vb, inputs, &branches, Pool::Average, Some(pooled))
}

pub fn mixed_6a(vb: VarBuilder, inputs: usize) -> Result<Mixed> {
    let branches: [&[Part]; 2] = [
        &[Halving("branch3x3", 384)],
        &[Conv("branch3x3dbl_1", 64, (1, 1)), Conv("branch3x3dbl_2", 96, (3, 3)), Halving("branch3x3dbl_3", 96)],
    ];
    Mixed::new(vb, inputs, &branches, Pool::Halving, None)
}

/// 7 x 7 as rows and columns.
pub fn mixed_6(vb: VarBuilder, inputs: usize, inner: usize) -> Result<Mixed> {
    let branches: [&[Part]; 3] = [
        &[Conv("branch1x1", 192, (1, 1))],
        &[Conv("branch7x7_1", inner, (1, 1)), Conv("branch7x7_2", inner, (1, 7)), Conv("branch7x7_3", 192, (7, 1))],
        &[
            Conv("branch7x7dbl_1", inner, (1, 1)),
            Conv("branch7x7dbl_2", inner, (7, 1)),
            Conv("branch7x7dbl_3", inner, (1, 7)),
            Conv("branch7x7dbl_4", inner, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ],
    ];
    Mixed::new(vb, inputs, &branches, Pool::Average, Some(192))
}

pub fn mixed_7a(vb: VarBuilder, inputs: usize) -> Result<Mixed> {
    let branches: [&[Part]; 2] = [
        &[Conv("branch3x3_1", 192, (1, 1)), Halving("branch3x3_2", 320)],
        &[
            Conv("branch7x7x3_1", 192, (1, 1)),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Halving("branch7x7x3_4", 192),
        ],
    ];
    Mixed::new(vb, inputs, &branches, Pool::Halving, None)
}

/// 3 x 3 as a row beside a column. The last block pools by maximum, an oddity that FID has kept.
pub fn mixed_7(vb: VarBuilder, inputs: usize, pool: Pool) -> Result<Mixed> {
    let branches: [&[Part]; 3] = [
        &[Conv("branch1x1", 320, (1, 1))],
        &[Conv("branch3x3_1", 384, (1, 1)), Split("branch3x3_2a", "branch3x3_2b", 384)],
        &[
            Conv("branch3x3dbl_1", 448, (1, 1)),
            Conv("branch3x3dbl_2", 384, (3, 3)),
            Split("branch3x3dbl_3a", "branch3x3dbl_3b", 384),
        ],
    ];
    Mixed::new(vb, inputs, &branches, pool, Some(192))
}
