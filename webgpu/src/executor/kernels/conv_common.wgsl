// What the kernels for 2-D convolution share: y = activate(scale * (conv(x) + bias) + residual_scale * residual).

// 2 where every pixel of x stands for 2 x 2 equal ones, else 1. What a 3x3 kernel sees of them are 2 x 2 pixels of x, which
// ones depends on whether row and column of y are even: so y is PHASES x PHASES interlaced images of the size of x, its
// phases, each with a kernel of its own, KERNEL = 2.
override PHASES: u32 = 1u;
override RESIDUAL: bool = false;

struct Params {
    batch: u32,
    in_blocks: u32,
    in_height: u32,
    in_width: u32,
    out_blocks: u32,
    // Of a phase.
    out_height: u32,
    out_width: u32,
    // Zeros above and left of the image.
    pad: u32,
    // Distance between the biases of two samples in vec4: 0 if they share one.
    bias_stride: u32,
    scale: f32,
    residual_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (in C4, N, H, W)
@group(0) @binding(2) var<storage, read> weight: array<Column>; // (PHASES², out C4, in C4, KERNEL, KERNEL, 4), last an input channel
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (1 or N, out C4)
@group(0) @binding(4) var<storage, read> residual: array<Read4>; // as y; not read unless RESIDUAL
@group(0) @binding(5) var<storage, read_write> y: array<Written>; // (out C4, N, H', W')

// The first row of x that a row of a phase depends on, `odd` if the phase has the odd rows of y; or column.
fn first_tap(at: u32, odd: u32) -> i32 {
    return i32(at * STRIDE + odd) - i32(params.pad);
}

// Where a pixel of a phase lies in a plane of y.
fn interlaced(row: u32, column: u32, phase: u32) -> u32 {
    return ((row * PHASES + phase / PHASES) * params.out_width + column) * PHASES + phase % PHASES;
}

fn plane_size() -> u32 {
    return params.out_height * params.out_width * PHASES * PHASES;
}

// Four columns of the weights.
fn weight_matrix(index: u32) -> Matrix {
    let at = index * 4u;
    return Matrix(
        unpacked(weight[at]),
        unpacked(weight[at + 1u]),
        unpacked(weight[at + 2u]),
        unpacked(weight[at + 3u]),
    );
}

fn store(index: u32, sum: vec4<f32>, bias: vec4<f32>) {
    var value = params.scale * (sum + bias);
    if RESIDUAL {
        value += params.residual_scale * vec4<f32>(residual[index]);
    }
    y[index] = Written(activate(value));
}

// The bias of a block of a sample, whatever if there is none.
fn block_bias(sample: u32, block: u32) -> vec4<f32> {
    return bias[sample * params.bias_stride + min(block, params.out_blocks - 1u)];
}

// Stores the result for pixel `at` of a block's planes of all samples, if there is such a pixel and block.
fn finish(sum: vec4<f32>, bias: vec4<f32>, block: u32, at: u32, inside: bool) {
    if inside && block < params.out_blocks {
        store(block * params.batch * plane_size() + at, sum, bias);
    }
}
