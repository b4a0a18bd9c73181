// 2-D convolution: y = activate(scale * (conv(x) + bias) + residual_scale * residual).
//
// Direct, with register blocking: one thread computes four output channels of four neighbouring pixels of a row.

override KERNEL: u32 = 3u;
override STRIDE: u32 = 1u;
// Every pixel of x stands for UPSAMPLE x UPSAMPLE equal ones.
override UPSAMPLE: u32 = 1u;
override RESIDUAL: bool = false;

struct Params {
    batch: u32,
    in_blocks: u32,
    in_height: u32,
    in_width: u32,
    out_blocks: u32,
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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (N, in C4, H, W)
@group(0) @binding(2) var<storage, read> weight: array<mat4x4<f32>>; // (out C4, in C4, KERNEL, KERNEL), a column per input channel
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (1 or N, out C4)
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>; // as y; not read unless RESIDUAL
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>; // (N, out C4, H', W')

// Pixel `column` of the row of x that starts at `row`; zero outside the image.
fn pixel(row: u32, column: i32) -> vec4<f32> {
    let inside = column >= 0 && column < i32(params.in_width * UPSAMPLE);
    let value = x[row + select(0u, u32(column) / UPSAMPLE, inside)];
    return select(vec4<f32>(0.0), value, inside);
}

fn store(index: u32, sum: vec4<f32>, bias: vec4<f32>) {
    var value = params.scale * (sum + bias);
    if RESIDUAL {
        value += params.residual_scale * residual[index];
    }
    y[index] = activate(value);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let columns = (params.out_width + 3u) / 4u;
    let index = folded(workgroup_id, grid) * THREADS + thread;
    let out_row = index / columns % params.out_height;
    let block = index / (columns * params.out_height) % params.out_blocks;
    let sample = index / (columns * params.out_height * params.out_blocks);
    if sample >= params.batch {
        return;
    }
    let out_column = index % columns * 4u;
    let top = i32(out_row * STRIDE) - i32(params.pad);
    let left = i32(out_column * STRIDE) - i32(params.pad);
    let step = i32(STRIDE);

    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    for (var in_block = 0u; in_block < params.in_blocks; in_block++) {
        let plane = (sample * params.in_blocks + in_block) * params.in_height;
        let weights = (block * params.in_blocks + in_block) * KERNEL * KERNEL;
        for (var ky = 0u; ky < KERNEL; ky++) {
            let in_row = top + i32(ky);
            if in_row < 0 || in_row >= i32(params.in_height * UPSAMPLE) {
                continue;
            }
            let row = (plane + u32(in_row) / UPSAMPLE) * params.in_width;
            for (var kx = 0u; kx < KERNEL; kx++) {
                let w = weight[weights + ky * KERNEL + kx];
                let column = left + i32(kx);
                sum0 += w * pixel(row, column);
                sum1 += w * pixel(row, column + step);
                sum2 += w * pixel(row, column + 2 * step);
                sum3 += w * pixel(row, column + 3 * step);
            }
        }
    }

    let b = bias[sample * params.bias_stride + block];
    let out = ((sample * params.out_blocks + block) * params.out_height + out_row) * params.out_width + out_column;
    let count = params.out_width - out_column;
    store(out, sum0, b);
    if count > 1u {
        store(out + 1u, sum1, b);
    }
    if count > 2u {
        store(out + 2u, sum2, b);
    }
    if count > 3u {
        store(out + 3u, sum3, b);
    }
}
