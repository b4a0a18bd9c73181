// 2-D convolution to a single pixel, a product of matrix and vector: LANES threads share the sum of 4 output channels, over all
// that the kernel sees, and a workgroup computes THREADS / LANES such groups of channels.
//
// Given with the source: KERNEL, STRIDE, LANES, a power of two.

var<workgroup> partial_sums: array<vec4<f32>, THREADS>;

// Number `i` of what the kernel sees, the taps of four channels before those of the next; zero outside the image.
fn seen(i: u32, sample: u32) -> Factor {
    let row = first_tap(0u, 0u) + i32(i / KERNEL % KERNEL);
    let column = first_tap(0u, 0u) + i32(i % KERNEL);
    if min(row, column) < 0 || row >= i32(params.in_height) || column >= i32(params.in_width) {
        return Factor();
    }
    let plane = i / (KERNEL * KERNEL) * params.batch + sample;
    return Factor(x[(plane * params.in_height + u32(row)) * params.in_width + u32(column)]);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // Workgroups that follow each other read the same weights.
    let index = folded(workgroup_id, grid);
    let sample = index % params.batch;
    let block = index / params.batch * (THREADS / LANES) + thread / LANES;
    let lane = thread % LANES;
    let count = params.in_blocks * KERNEL * KERNEL;
    // Blocks that stick out are computed as the last one, and not stored.
    let first = min(block, params.out_blocks - 1u) * count;
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < count; i += LANES) {
        sum = multiply_add(weight_matrix(first + i), seen(i, sample), sum);
    }
    partial_sums[thread] = sum;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial_sums[thread] += partial_sums[thread + half];
        }
    }
    finish(partial_sums[thread], block_bias(sample, block), block, sample, lane == 0u);
}
