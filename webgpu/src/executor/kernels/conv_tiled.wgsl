// 2-D convolution as a product of matrices: pixels of a phase, of the whole batch, times output channels, summed over all taps of all
// input channels. A workgroup computes a tile of TILE_PIXELS x 4 TILE_BLOCKS, a thread PIXELS x 4 BLOCKS of it. What a
// stage of DEPTH taps needs is gathered in workgroup memory first.
//
// Given with the source: KERNEL, STRIDE, PIXEL_THREADS, PIXELS, BLOCKS. Lines with $p and $b are for each pixel and block of a
// thread, see unroll.rs.

const BLOCK_THREADS: u32 = THREADS / PIXEL_THREADS;
const TILE_PIXELS: u32 = PIXEL_THREADS * PIXELS; // divides THREADS
const TILE_BLOCKS: u32 = BLOCK_THREADS * BLOCKS;
const DEPTH: u32 = 4u;
// Taps of one stage that are gathered at the same time.
const GATHERED: u32 = THREADS / TILE_PIXELS;

var<workgroup> pixels: array<Factor, DEPTH * TILE_PIXELS>; // (DEPTH, TILE_PIXELS)
var<workgroup> columns: array<Factor, DEPTH * TILE_BLOCKS * 4u>; // (TILE_BLOCKS, DEPTH, 4)

// A pixel of a phase, and where its first tap lies in x.
struct Place {
    inside: bool,
    sample: u32,
    row: u32,
    column: u32,
    top: i32,
    left: i32,
}

fn place(index: u32, phase: u32) -> Place {
    let row = index / params.out_width % params.out_height;
    let column = index % params.out_width;
    let sample = index / (params.out_height * params.out_width);
    let top = first_tap(row, phase / PHASES);
    let left = first_tap(column, phase % PHASES);
    return Place(sample < params.batch, sample, row, column, top, left);
}

// What tap number `k` of all taps of all blocks sees; zero outside the image.
fn tap(at: Place, k: u32) -> Factor {
    let in_block = k / (KERNEL * KERNEL);
    let row = at.top + i32(k / KERNEL % KERNEL);
    let column = at.left + i32(k % KERNEL);
    let inside = row >= 0 && row < i32(params.in_height) && column >= 0 && column < i32(params.in_width);
    if !at.inside || in_block >= params.in_blocks || !inside {
        return Factor();
    }
    let plane = (in_block * params.batch + at.sample) * params.in_height;
    return Factor(x[(plane + u32(row)) * params.in_width + u32(column)]);
}

fn gathered_matrix(index: u32) -> Matrix {
    let at = index * 4u;
    return Matrix(columns[at], columns[at + 1u], columns[at + 2u], columns[at + 3u]);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (params.batch * params.out_height * params.out_width + TILE_PIXELS - 1u) / TILE_PIXELS;
    let index = folded(workgroup_id, grid);
    let first_pixel = index % tiles * TILE_PIXELS;
    let block_tiles = (params.out_blocks + TILE_BLOCKS - 1u) / TILE_BLOCKS;
    let first_block = index / tiles % block_tiles * TILE_BLOCKS;
    let phase = index / (tiles * block_tiles);
    if phase >= PHASES * PHASES {
        return;
    }
    let taps = params.in_blocks * KERNEL * KERNEL;
    let gathered = place(first_pixel + thread % TILE_PIXELS, phase);

    var sum_$b_$p = vec4<f32>(0.0);
    let own_pixel = thread % PIXEL_THREADS;
    let own_block = thread / PIXEL_THREADS * BLOCKS;
    for (var stage = 0u; stage < taps; stage += DEPTH) {
        for (var k = thread / TILE_PIXELS; k < DEPTH; k += GATHERED) {
            pixels[k * TILE_PIXELS + thread % TILE_PIXELS] = tap(gathered, stage + k);
        }
        for (var i = thread; i < TILE_BLOCKS * DEPTH * 4u; i += THREADS) {
            let block = first_block + i / (DEPTH * 4u);
            let k = stage + i / 4u % DEPTH;
            var column = Factor();
            if block < params.out_blocks && k < taps {
                column = unpacked(weight[((phase * params.out_blocks + block) * taps + k) * 4u + i % 4u]);
            }
            columns[i] = column;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let x_$p = pixels[k * TILE_PIXELS + own_pixel + $pu * PIXEL_THREADS];
            let w_$b = gathered_matrix((own_block + $bu) * DEPTH + k);
            sum_$b_$p = multiply_add(w_$b, x_$p, sum_$b_$p);
        }
        workgroupBarrier();
    }

    let at_$p = place(first_pixel + own_pixel + $pu * PIXEL_THREADS, phase);
    let to_$p = at_$p.sample * plane_size() + interlaced(at_$p.row, at_$p.column, phase);
    let bias_$b_$p = block_bias(at_$p.sample, first_block + own_block + $bu);
    finish(sum_$b_$p, bias_$b_$p, first_block + own_block + $bu, to_$p, at_$p.inside);
}
