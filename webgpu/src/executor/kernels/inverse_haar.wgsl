// Blocks of 2x2 pixels from their four sub-bands. Each thread writes one block.

struct Params {
    // vec4 in a band.
    count: u32,
    in_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ll: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> lh: array<Read2>; // as ll
@group(0) @binding(3) var<storage, read> hl: array<Read3>; // as ll
@group(0) @binding(4) var<storage, read> hh: array<Read4>; // as ll
@group(0) @binding(5) var<storage, read_write> y: array<Written>; // (C4, N, 2 H, 2 W)

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
    let above = (2u * (index / params.in_width) * params.in_width + index % params.in_width) * 2u;
    let below = above + 2u * params.in_width;
    let mean = vec4<f32>(ll[index]);
    let vertical = vec4<f32>(hl[index]);
    let horizontal = vec4<f32>(lh[index]);
    let diagonal = vec4<f32>(hh[index]);
    let upper = mean + vertical;
    let lower = mean - vertical;
    y[above] = Written(upper + (horizontal + diagonal));
    y[above + 1u] = Written(upper - (horizontal + diagonal));
    y[below] = Written(lower + (horizontal - diagonal));
    y[below + 1u] = Written(lower - (horizontal - diagonal));
}
