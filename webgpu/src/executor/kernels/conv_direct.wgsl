// 2-D convolution with register blocking alone: one thread computes 4 BLOCKS output channels of PIXELS neighbouring pixels of
// a row of a phase. With a stride of 1, what one tap sees is, but for one pixel, what the next one sees.
//
// Given with the source: KERNEL, STRIDE, PIXELS, BLOCKS. Lines with $p and $b are for each pixel and block, see unroll.rs.

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
    let columns = (params.out_width + PIXELS - 1u) / PIXELS;
    let block_tiles = (params.out_blocks + BLOCKS - 1u) / BLOCKS;
    let index = folded(workgroup_id, grid) * THREADS + thread;
    let out_row = index / columns % params.out_height;
    let first_block = index / (columns * params.out_height) % block_tiles * BLOCKS;
    let phase = index / (columns * params.out_height * block_tiles) % (PHASES * PHASES);
    let sample = index / (columns * params.out_height * block_tiles * PHASES * PHASES);
    if sample >= params.batch {
        return;
    }
    let out_column = index % columns * PIXELS;
    let top = first_tap(out_row, phase / PHASES);
    let left = first_tap(out_column, phase % PHASES);
    // Blocks that stick out are computed as the last one, and not stored.
    let block_$b = phase * params.out_blocks + min(first_block + $bu, params.out_blocks - 1u);

    var sum_$b_$p = vec4<f32>(0.0);
    // Rows of x from four channels to the next. This loop's bounds are not uniforms alone: Mesa would compile the kernel anew for
    // each value of them.
    let rows = params.batch * params.in_height;
    var matrix_$b = block_$b * params.in_blocks * KERNEL * KERNEL;
    for (var plane = sample * params.in_height; plane < params.in_blocks * rows; plane += rows) {
        for (var ky = 0u; ky < KERNEL; ky++) {
            let in_row = top + i32(ky);
            if in_row < 0 || in_row >= i32(params.in_height) {
                continue;
            }
            let row = (plane + u32(in_row)) * params.in_width;
            var x_$p = pixel(row, left + i32($pu * STRIDE));
            for (var kx = 0u; kx < KERNEL; kx++) {
                let w_$b = weight_matrix(matrix_$b + ky * KERNEL + kx);
                sum_$b_$p = multiply_add(w_$b, x_$p, sum_$b_$p);
                let next = left + i32(kx + 1u);
                if STRIDE == 1u {
                    let x_$n = pixel(row, next + i32(PIXELS) - 1);
                    x_$p = x_$q;
                } else {
                    x_$p = pixel(row, next + i32($pu * STRIDE));
                }
            }
        }
        matrix_$b += KERNEL * KERNEL;
    }
    let first = sample * plane_size();
    let at_$p = first + interlaced(out_row, out_column + $pu, phase);
    let bias_$b = block_bias(sample, first_block + $bu);
    finish(sum_$b_$p, bias_$b, first_block + $bu, at_$p, out_column + $pu < params.out_width);
}
