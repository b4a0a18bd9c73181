// A factor and an offset for each channel of each sample: y = activate(x * factor + offset).

struct Params {
    // vec4 in y.
    count: u32,
    batch: u32,
    blocks: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> affine: array<vec4<f32>>; // (N, 2, C4): factors, then offsets
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
    let factor = affine[sample * 2u * params.blocks + block];
    let offset = affine[(sample * 2u + 1u) * params.blocks + block];
    y[index] = Written(activate(vec4<f32>(x[index]) * factor + offset));
}
