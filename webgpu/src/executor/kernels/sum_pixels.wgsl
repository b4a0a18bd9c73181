// The sum over all pixels of each channel. One thread for each four channels of a sample.

struct Params {
    // vec4 in y.
    count: u32,
    batch: u32,
    blocks: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (N, C4)

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
    let sample = index / params.blocks;
    let plane = index % params.blocks * params.batch + sample;
    var sum = vec4<f32>(0.0);
    for (var pixel = 0u; pixel < params.pixels; pixel++) {
        sum += vec4<f32>(x[plane * params.pixels + pixel]);
    }
    y[index] = Written(sum);
}
