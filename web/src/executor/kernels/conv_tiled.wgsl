// 2-D convolution as a product of matrices: pixels of the whole batch times output channels, summed over all taps of all
// input channels. A workgroup computes a tile of TILE_PIXELS x 4 TILE_BLOCKS, a thread PIXELS x 4 BLOCKS of it. What a
// stage of DEPTH taps needs is gathered in workgroup memory first.
//
// Given with the source, because they size arrays: PIXEL_THREADS, PIXELS, BLOCKS.

const BLOCK_THREADS: u32 = THREADS / PIXEL_THREADS;
const TILE_PIXELS: u32 = PIXEL_THREADS * PIXELS; // divides THREADS
const TILE_BLOCKS: u32 = BLOCK_THREADS * BLOCKS;
const DEPTH: u32 = 4u;
// Taps of one stage that are gathered at the same time.
const GATHERED: u32 = THREADS / TILE_PIXELS;

var<workgroup> pixels: array<vec4<f32>, DEPTH * TILE_PIXELS>; // (DEPTH, TILE_PIXELS)
var<workgroup> columns: array<vec4<f32>, DEPTH * TILE_BLOCKS * 4u>; // (TILE_BLOCKS, DEPTH, 4)

// A pixel of y, and where its first tap lies in x.
struct Place {
    inside: bool,
    sample: u32,
    // Within the image.
    pixel: u32,
    top: i32,
    left: i32,
}

fn place(index: u32) -> Place {
    let size = params.out_height * params.out_width;
    let pixel = index % size;
    let sample = index / size;
    let top = i32(pixel / params.out_width * STRIDE) - i32(params.pad);
    let left = i32(pixel % params.out_width * STRIDE) - i32(params.pad);
    return Place(sample < params.batch, sample, pixel, top, left);
}

// What tap number `k` of all taps of all blocks sees; zero outside the image.
fn tap(at: Place, k: u32) -> vec4<f32> {
    let in_block = k / (KERNEL * KERNEL);
    let row = at.top + i32(k / KERNEL % KERNEL);
    let column = at.left + i32(k % KERNEL);
    let height = i32(params.in_height * UPSAMPLE);
    let width = i32(params.in_width * UPSAMPLE);
    if !at.inside || in_block >= params.in_blocks || row < 0 || row >= height || column < 0 || column >= width {
        return vec4<f32>(0.0);
    }
    let plane = (at.sample * params.in_blocks + in_block) * params.in_height;
    return vec4<f32>(x[(plane + u32(row) / UPSAMPLE) * params.in_width + u32(column) / UPSAMPLE]);
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
    let first_block = index / tiles * TILE_BLOCKS;
    if first_block >= params.out_blocks {
        return;
    }
    let taps = params.in_blocks * KERNEL * KERNEL;
    let gathered = place(first_pixel + thread % TILE_PIXELS);

    var sums: array<vec4<f32>, BLOCKS * PIXELS>;
    let own_pixel = thread % PIXEL_THREADS;
    let own_block = thread / PIXEL_THREADS * BLOCKS;
    for (var stage = 0u; stage < taps; stage += DEPTH) {
        for (var k = thread / TILE_PIXELS; k < DEPTH; k += GATHERED) {
            pixels[k * TILE_PIXELS + thread % TILE_PIXELS] = tap(gathered, stage + k);
        }
        for (var i = thread; i < TILE_BLOCKS * DEPTH * 4u; i += THREADS) {
            let block = first_block + i / (DEPTH * 4u);
            let k = stage + i / 4u % DEPTH;
            var column = vec4<f32>(0.0);
            if block < params.out_blocks && k < taps {
                column = unpacked(weight[(block * taps + k) * 4u + i % 4u]);
            }
            columns[i] = column;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            var values: array<vec4<f32>, PIXELS>;
            for (var p = 0u; p < PIXELS; p++) {
                values[p] = pixels[k * TILE_PIXELS + own_pixel + p * PIXEL_THREADS];
            }
            for (var b = 0u; b < BLOCKS; b++) {
                let at = ((own_block + b) * DEPTH + k) * 4u;
                let w = mat4x4<f32>(columns[at], columns[at + 1u], columns[at + 2u], columns[at + 3u]);
                for (var p = 0u; p < PIXELS; p++) {
                    sums[b * PIXELS + p] = multiply_add(w, values[p], sums[b * PIXELS + p]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var p = 0u; p < PIXELS; p++) {
        let at = place(first_pixel + own_pixel + p * PIXEL_THREADS);
        for (var b = 0u; b < BLOCKS; b++) {
            let block = first_block + own_block + b;
            if at.inside && block < params.out_blocks {
                let plane = (at.sample * params.out_blocks + block) * params.out_height * params.out_width;
                store(plane + at.pixel, sums[b * PIXELS + p], bias[at.sample * params.bias_stride + block]);
            }
        }
    }
}
