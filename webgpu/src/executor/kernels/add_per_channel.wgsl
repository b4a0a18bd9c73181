// Adds a bias to every pixel: y = activate(x + bias).

struct Params {
    // vec4 in y.
    count: u32,
    batch: u32,
    blocks: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> bias: array<Read2>; // (N, C4)
@group(0) @binding(3) var<storage, read_write> y: array<Written>; // (C4, N, H, W)

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
    let sample = index / params.pixels % params.batch;
    let block = index / (params.pixels * params.batch);
    y[index] = Written(activate(vec4<f32>(x[index]) + vec4<f32>(bias[sample * params.blocks + block])));
}
