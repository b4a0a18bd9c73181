// Concatenation along the channels.

struct Params {
    // vec4 in y.
    count: u32,
    a_channels: u32,
    b_channels: u32,
    // Of all samples.
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Read1>; // (C4 of a, N, H, W)
@group(0) @binding(2) var<storage, read> b: array<Read2>; // (C4 of b, N, H, W)
@group(0) @binding(3) var<storage, read_write> y: array<Written>; // (C4 of both, N, H, W)

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
    let a_blocks = (params.a_channels + 3u) / 4u;
    let pixel = index % params.pixels;
    let block = index / params.pixels;
    var value = vec4<f32>(0.0);
    if block * 4u + 4u <= params.a_channels {
        value = vec4<f32>(a[index]);
    } else if params.a_channels % 4u == 0u {
        value = vec4<f32>(b[index - a_blocks * params.pixels]);
    } else {
        for (var lane = 0u; lane < 4u; lane++) {
            let channel = block * 4u + lane;
            if channel < params.a_channels {
                value[lane] = vec4<f32>(a[channel / 4u * params.pixels + pixel])[channel % 4u];
            } else if channel < params.a_channels + params.b_channels {
                let other = channel - params.a_channels;
                value[lane] = vec4<f32>(b[other / 4u * params.pixels + pixel])[other % 4u];
            }
        }
    }
    y[index] = Written(value);
}
