// Input channel c factor² + i factor + j goes to channel c, row i, column j of each block of pixels.

struct Params {
    // vec4 in y.
    count: u32,
    batch: u32,
    in_height: u32,
    in_width: u32,
    out_channels: u32,
    factor: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (C4 / factor² rounded up, N, factor H, factor W)

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
    let factor = params.factor;
    let width = params.in_width * factor;
    let height = params.in_height * factor;
    let column = index % width;
    let row = index / width % height;
    let sample = index / (width * height) % params.batch;
    let block = index / (width * height * params.batch);
    let part = row % factor * factor + column % factor;
    let pixel = row / factor * params.in_width + column / factor;
    var value = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        let out_channel = block * 4u + lane;
        if out_channel < params.out_channels {
            let channel = out_channel * factor * factor + part;
            let plane = channel / 4u * params.batch + sample;
            value[lane] = vec4<f32>(x[plane * params.in_height * params.in_width + pixel])[channel % 4u];
        }
    }
    y[index] = Written(value);
}
