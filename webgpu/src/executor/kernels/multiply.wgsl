// The product of two values, number by number, and a bias: y = a * b + bias.

// 0 none, 1 one for each number, 2 one for each channel of a sample.
override BIAS: u32 = 0u;

struct Params {
    // vec4 in y.
    count: u32,
    batch: u32,
    blocks: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> b: array<Read2>; // as a
@group(0) @binding(3) var<storage, read> bias: array<Read3>; // as a, or (N, C4); not read unless BIAS > 0
@group(0) @binding(4) var<storage, read_write> y: array<Written>; // as a

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
    var value = vec4<f32>(a[index]) * vec4<f32>(b[index]);
    if BIAS == 1u {
        value += vec4<f32>(bias[index]);
    } else if BIAS == 2u {
        let sample = index / params.pixels % params.batch;
        let block = index / (params.pixels * params.batch);
        value += vec4<f32>(bias[sample * params.blocks + block]);
    }
    y[index] = Written(value);
}
