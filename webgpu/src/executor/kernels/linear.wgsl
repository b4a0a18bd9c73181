// Fully connected layer: y = activate(weight x + bias). One thread computes four features of one sample.

struct Params {
    batch: u32,
    in_blocks: u32,
    out_blocks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (N, in C4)
@group(0) @binding(2) var<storage, read> weight: array<Column>; // (out C4, in C4, 4), last an input feature
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out C4)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (N, out C4)

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = folded(workgroup_id, grid) * THREADS + thread;
    let block = index % params.out_blocks;
    let sample = index / params.out_blocks;
    if sample >= params.batch {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var in_block = 0u; in_block < params.in_blocks; in_block++) {
        let at = (block * params.in_blocks + in_block) * 4u;
        let w = Matrix(
            unpacked(weight[at]),
            unpacked(weight[at + 1u]),
            unpacked(weight[at + 2u]),
            unpacked(weight[at + 3u]),
        );
        sum = multiply_add(w, x[sample * params.in_blocks + in_block], sum);
    }
    y[index] = activate(sum + bias[block]);
}
