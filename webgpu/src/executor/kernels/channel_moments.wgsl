// Mean and sum of squared deviations of each channel over a part of the pixels, from which norm_factors.wgsl makes a
// norm. One workgroup for each four channels of a sample and each part; the two passes of the textbook.

// Pixels of a part.
const SPAN: u32 = 1024u;

struct Params {
    // Groups of four channels of all samples.
    planes: u32,
    pixels: u32,
    parts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (C4, N, parts, 2): mean, sum of squared deviations

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    thread: Thread,
) {
    let index = folded(workgroup_id, grid);
    let plane = index / params.parts;
    if plane >= params.planes {
        return;
    }
    let first = index % params.parts * SPAN;
    let end = min(first + SPAN, params.pixels);
    var sum = vec4<f32>(0.0);
    for (var pixel = first + thread.index; pixel < end; pixel += THREADS) {
        sum += vec4<f32>(x[plane * params.pixels + pixel]);
    }
    let mean = workgroup_sum(thread, sum) / f32(end - first);
    var squares = vec4<f32>(0.0);
    for (var pixel = first + thread.index; pixel < end; pixel += THREADS) {
        let d = vec4<f32>(x[plane * params.pixels + pixel]) - mean;
        squares += d * d;
    }
    let deviations = workgroup_sum(thread, squares);
    if thread.index == 0u {
        y[2u * index] = Written(mean);
        y[2u * index + 1u] = Written(deviations);
    }
}
