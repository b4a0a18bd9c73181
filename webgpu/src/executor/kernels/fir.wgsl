// Resampling with the separable FIR kernel [1, 3, 3, 1] / 8, zeros outside the image.

// 0 twice the size, 1 half the size, 2 one more than the size.
override MODE: u32 = 0u;

struct Params {
    // vec4 in y.
    count: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (C4, N, H', W')

// The first coordinate of x that coordinate `out` of y depends on.
fn first(out: u32) -> i32 {
    switch MODE {
        case 0u: {
            return i32((out + 1u) / 2u) - 1;
        }
        case 1u: {
            return i32(2u * out) - 1;
        }
        default: {
            return i32(out) - 2;
        }
    }
}

// How much tap number `tap` weighs for coordinate `out` of y.
fn tap_weight(out: u32, tap: u32) -> f32 {
    if MODE == 0u {
        return select(0.25, 0.75, (out + tap) % 2u == 1u);
    }
    return select(0.125, 0.375, tap == 1u || tap == 2u);
}

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
    let taps = select(4u, 2u, MODE == 0u);
    let out_column = index % params.out_width;
    let out_row = index / params.out_width % params.out_height;
    let plane = index / (params.out_width * params.out_height) * params.in_height;
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < taps; i++) {
        let row = first(out_row) + i32(i);
        if row < 0 || row >= i32(params.in_height) {
            continue;
        }
        for (var j = 0u; j < taps; j++) {
            let column = first(out_column) + i32(j);
            if column < 0 || column >= i32(params.in_width) {
                continue;
            }
            let value = vec4<f32>(x[(plane + u32(row)) * params.in_width + u32(column)]);
            sum += tap_weight(out_row, i) * tap_weight(out_column, j) * value;
        }
    }
    y[index] = Written(sum);
}
