// 2-D convolution with register blocking alone: one thread computes four output channels of four neighbouring pixels of
// a row of a phase.

// Four columns of the weights, from `at` on.
fn matrix(at: u32) -> Matrix {
    return Matrix(
        unpacked(weight[at]),
        unpacked(weight[at + 1u]),
        unpacked(weight[at + 2u]),
        unpacked(weight[at + 3u]),
    );
}

// Pixel `column` of the row of x that starts at `row`; zero outside the image.
fn pixel(row: u32, column: i32) -> Factor {
    let inside = column >= 0 && column < i32(params.in_width);
    let value = Factor(x[row + select(0u, u32(column), inside)]);
    return select(Factor(), value, inside);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let columns = (params.out_width + 3u) / 4u;
    let index = folded(workgroup_id, grid) * THREADS + thread;
    let out_row = index / columns % params.out_height;
    let block = index / (columns * params.out_height) % params.out_blocks;
    let phase = index / (columns * params.out_height * params.out_blocks) % (PHASES * PHASES);
    let sample = index / (columns * params.out_height * params.out_blocks * PHASES * PHASES);
    if sample >= params.batch {
        return;
    }
    let out_column = index % columns * 4u;
    let top = first_tap(out_row, phase / PHASES);
    let left = first_tap(out_column, phase % PHASES);
    let step = i32(STRIDE);

    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    for (var in_block = 0u; in_block < params.in_blocks; in_block++) {
        let plane = (sample * params.in_blocks + in_block) * params.in_height;
        let weights = ((phase * params.out_blocks + block) * params.in_blocks + in_block) * KERNEL * KERNEL;
        for (var ky = 0u; ky < KERNEL; ky++) {
            let in_row = top + i32(ky);
            if in_row < 0 || in_row >= i32(params.in_height) {
                continue;
            }
            let row = (plane + u32(in_row)) * params.in_width;
            for (var kx = 0u; kx < KERNEL; kx++) {
                let w = matrix((weights + ky * KERNEL + kx) * 4u);
                let column = left + i32(kx);
                sum0 = multiply_add(w, pixel(row, column), sum0);
                sum1 = multiply_add(w, pixel(row, column + step), sum1);
                sum2 = multiply_add(w, pixel(row, column + 2 * step), sum2);
                sum3 = multiply_add(w, pixel(row, column + 3 * step), sum3);
            }
        }
    }

    let b = bias[sample * params.bias_stride + block];
    let out = (sample * params.out_blocks + block) * plane_size() + interlaced(out_row, out_column, phase);
    let count = params.out_width - out_column;
    store(out, sum0, b);
    if count > 1u {
        store(out + PHASES, sum1, b);
    }
    if count > 2u {
        store(out + 2u * PHASES, sum2, b);
    }
    if count > 3u {
        store(out + 3u * PHASES, sum3, b);
    }
}
