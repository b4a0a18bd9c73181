// The weighted sum of each block of 2x2 pixels.

struct Params {
    // vec4 in y.
    count: u32,
    out_width: u32,
    // Of the pixels of a block, row by row.
    weight_0: f32,
    weight_1: f32,
    weight_2: f32,
    weight_3: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, 2 H, 2 W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (C4, N, H, W)

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = folded(workgroup_id, grid) * THREADS + thread;
    if index >= params.count {
        return;
    }
    // The rows of all planes follow each other.
    let row = index / params.out_width;
    let column = index % params.out_width;
    let above = (2u * row * params.out_width + column) * 2u;
    let below = above + 2u * params.out_width;
    let upper = params.weight_0 * vec4<f32>(x[above]) + params.weight_1 * vec4<f32>(x[above + 1u]);
    let lower = params.weight_2 * vec4<f32>(x[below]) + params.weight_3 * vec4<f32>(x[below + 1u]);
    y[index] = Written(upper + lower);
}
