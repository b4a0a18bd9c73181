// Every pixel becomes `factor` x `factor` equal pixels.

struct Params {
    // vec4 in y.
    count: u32,
    in_height: u32,
    in_width: u32,
    factor: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (C4, N, factor H, factor W)

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
    let width = params.in_width * params.factor;
    let height = params.in_height * params.factor;
    let column = index % width / params.factor;
    let row = index / width % height / params.factor;
    let plane = index / (width * height);
    y[index] = Written(vec4<f32>(x[(plane * params.in_height + row) * params.in_width + column]));
}
