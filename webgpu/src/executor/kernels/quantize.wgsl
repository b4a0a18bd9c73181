// Replaces every position by the nearest row of the codebook, the first on ties. One thread for each position.

struct Params {
    blocks: u32,
    // Of all samples.
    positions: u32,
    codes: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> codebook: array<vec4<f32>>; // (codes, C4)
@group(0) @binding(3) var<storage, read_write> y: array<Written>; // (C4, N, H, W)

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = folded(workgroup_id, grid) * THREADS + thread;
    if index >= params.positions {
        return;
    }
    var nearest = 0u;
    var least = 0.0;
    for (var code = 0u; code < params.codes; code++) {
        var distance = 0.0;
        for (var block = 0u; block < params.blocks; block++) {
            let d = vec4<f32>(x[index + block * params.positions]) - codebook[code * params.blocks + block];
            distance += dot(d, d);
        }
        if code == 0u || distance < least {
            nearest = code;
            least = distance;
        }
    }
    for (var block = 0u; block < params.blocks; block++) {
        y[index + block * params.positions] = Written(codebook[nearest * params.blocks + block]);
    }
}
