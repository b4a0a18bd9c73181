// 3x3 convolution of stride 1 by Winograd's F(2x2, 3x3): a patch of 2x2 pixels of y costs 16 multiplications instead of
// 36. With d the 4x4 pixels of x that a patch depends on and u the transformed weights, both matrices of channels:
//
//     y = Aᵀ (u ⊙ Bᵀ d B) A    Bᵀ = | 1  0 -1  0 |    Aᵀ = | 1  1  1  0 |
//                                   | 0  1  1  0 |         | 0  1 -1 -1 |
//                                   | 0 -1  1  0 |
//                                   | 0  1  0 -1 |
//
// A workgroup computes PATCHES patches of 4 BLOCKS channels. The 16 products, one for each element of the 4x4 matrices,
// are independent sums over the input channels: each is computed by four threads, which share the patches.
//
// Given with the source: PATCHES, BLOCKS. Lines with $b are for each block, see unroll.rs.

const ELEMENTS: u32 = 16u;
const ELEMENT_THREADS: u32 = THREADS / ELEMENTS;
// Patches of each thread.
const OWN_PATCHES: u32 = PATCHES / ELEMENT_THREADS;

var<workgroup> elements: array<vec4<f32>, ELEMENTS * PATCHES>; // (ELEMENTS, PATCHES) of Bᵀ d B, at the end of the product
var<workgroup> columns: array<vec4<f32>, ELEMENTS * BLOCKS * 4u>; // (BLOCKS, ELEMENTS, 4)

// A patch of y.
struct Place {
    inside: bool,
    sample: u32,
    // Its first row and column.
    top: u32,
    left: u32,
}

fn place(index: u32) -> Place {
    let across = (params.out_width + 1u) / 2u;
    let down = (params.out_height + 1u) / 2u;
    let sample = index / (across * down);
    return Place(sample < params.batch, sample, 2u * (index / across % down), 2u * (index % across));
}

// A pixel of x; zero outside the image.
fn pixel(plane: u32, row: i32, column: i32) -> vec4<f32> {
    if row < 0 || row >= i32(params.in_height) || column < 0 || column >= i32(params.in_width) {
        return vec4<f32>(0.0);
    }
    return vec4<f32>(x[(plane * params.in_height + u32(row)) * params.in_width + u32(column)]);
}

// Stores row `row` of Bᵀ d B for a patch.
fn transform(patch_index: u32, at: Place, in_block: u32, row: u32) {
    // The two rows of d that this row of Bᵀ takes.
    let first = select(select(1, 2, row == 2u), 0, row == 0u);
    let second = select(select(2, 3, row == 3u), 1, row == 2u);
    let sign = select(-1.0, 1.0, row == 1u);
    let plane = in_block * params.batch + at.sample;
    let top = i32(at.top) - i32(params.pad);
    let left = i32(at.left) - i32(params.pad);
    var t = array<vec4<f32>, 4>();
    if at.inside {
        for (var column = 0; column < 4; column++) {
            t[column] = pixel(plane, top + first, left + column) + sign * pixel(plane, top + second, left + column);
        }
    }
    let to = 4u * row * PATCHES + patch_index;
    elements[to] = t[0] - t[2];
    elements[to + PATCHES] = t[1] + t[2];
    elements[to + 2u * PATCHES] = t[2] - t[1];
    elements[to + 3u * PATCHES] = t[1] - t[3];
}

// Pixel (row, column) of a patch: Aᵀ times its elements times A.
fn result(patch_index: u32, row: u32, column: u32) -> vec4<f32> {
    let column_sign = select(1.0, -1.0, column == 1u);
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < 3u; i++) {
        let at = (4u * (row + i) + column) * PATCHES + patch_index;
        let line = elements[at] + column_sign * (elements[at + PATCHES] + elements[at + 2u * PATCHES]);
        sum += select(1.0, -1.0, row == 1u && i > 0u) * line;
    }
    return sum;
}

fn gathered_matrix(index: u32) -> Matrix {
    let at = index * 4u;
    return Matrix(columns[at], columns[at + 1u], columns[at + 2u], columns[at + 3u]);
}

// Where patch number `p` of a thread's own lies in `elements`.
fn own_place(thread: u32, p: u32) -> u32 {
    return thread / ELEMENT_THREADS * PATCHES + thread % ELEMENT_THREADS + p * ELEMENT_THREADS;
}

// Brings the products of a block together, and stores what the patches become.
fn finish_block(sums: ptr<function, array<vec4<f32>, OWN_PATCHES>>, block: u32, first_patch: u32, thread: u32) {
    for (var p = 0u; p < OWN_PATCHES; p++) {
        elements[own_place(thread, p)] = (*sums)[p];
    }
    workgroupBarrier();
    for (var i = thread; i < 4u * PATCHES; i += THREADS) {
        let at = place(first_patch + i / 4u);
        let row = at.top + i / 2u % 2u;
        let column = at.left + i % 2u;
        if at.inside && block < params.out_blocks && row < params.out_height && column < params.out_width {
            let plane = block * params.batch + at.sample;
            let to = (plane * params.out_height + row) * params.out_width + column;
            store(to, result(i / 4u, row % 2u, column % 2u), bias[at.sample * params.bias_stride + block]);
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let patches = params.batch * ((params.out_height + 1u) / 2u) * ((params.out_width + 1u) / 2u);
    let tiles = (patches + PATCHES - 1u) / PATCHES;
    let index = folded(workgroup_id, grid);
    let first_patch = index % tiles * PATCHES;
    let first_block = index / tiles * BLOCKS;
    if first_block >= params.out_blocks {
        return;
    }
    let own_element = thread / ELEMENT_THREADS;
    var sums_$b: array<vec4<f32>, OWN_PATCHES>;
    for (var in_block = 0u; in_block < params.in_blocks; in_block++) {
        for (var i = thread; i < 4u * PATCHES; i += THREADS) {
            transform(i % PATCHES, place(first_patch + i % PATCHES), in_block, i / PATCHES);
        }
        for (var i = thread; i < ELEMENTS * BLOCKS * 4u; i += THREADS) {
            // A block that does not exist repeats the last one; its sums are not stored.
            let block = min(first_block + i / (ELEMENTS * 4u), params.out_blocks - 1u);
            columns[i] = unpacked(weight[(block * params.in_blocks + in_block) * ELEMENTS * 4u + i % (ELEMENTS * 4u)]);
        }
        workgroupBarrier();
        var values: array<vec4<f32>, OWN_PATCHES>;
        for (var p = 0u; p < OWN_PATCHES; p++) {
            values[p] = elements[own_place(thread, p)];
        }
        let w_$b = gathered_matrix($bu * ELEMENTS + own_element);
        for (var p = 0u; p < OWN_PATCHES; p++) {
            sums_$b[p] = multiply_add(w_$b, values[p], sums_$b[p]);
        }
        workgroupBarrier();
    }
    finish_block(&sums_$b, first_block + $bu, first_patch, thread);
}
