// x / sqrt(mean over features of x² + 1e-8). One thread for each four features; vectors are short, so each sums alone.

struct Params {
    batch: u32,
    features: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (N, C4)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // (N, C4)

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let blocks = (params.features + 3u) / 4u;
    let index = folded(workgroup_id, grid) * THREADS + thread;
    let sample = index / blocks;
    if sample >= params.batch {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < blocks; i++) {
        let value = x[sample * blocks + i];
        sum += dot(value, value);
    }
    y[index] = x[index] / sqrt(sum / f32(params.features) + SQUARES_EPSILON);
}
