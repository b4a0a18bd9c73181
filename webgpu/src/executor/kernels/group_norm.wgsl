// A whole group norm: y = activate((x - mean) / deviation * scale + shift), for groups that are small and fill whole vec4.
// One workgroup for each sample and group; mean and variance in the two passes of the textbook.

struct Params {
    batch: u32,
    groups: u32,
    // vec4 of a group.
    group_blocks: u32,
    pixels: u32,
    // Where the first sample's style starts, and the distance to the next in f32: 0 if they share one.
    style_offset: u32,
    style_stride: u32,
    // Added to the scale: 1 for adaptive norms.
    scale_offset: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> style: array<f32>; // (1 or N, 2 C): scales, then shifts
@group(0) @binding(3) var<storage, read_write> y: array<Written>; // (C4, N, H, W)

// Four numbers of the style, from `at` on.
fn four(at: u32) -> vec4<f32> {
    return vec4<f32>(style[at], style[at + 1u], style[at + 2u], style[at + 3u]);
}

// Where pixel number `i` of a group lies, the pixels of its first four channels before those of the next.
fn place(sample: u32, group: u32, i: u32) -> u32 {
    let block = group * params.group_blocks + i / params.pixels;
    return (block * params.batch + sample) * params.pixels + i % params.pixels;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    thread: Thread,
) {
    let index = folded(workgroup_id, grid);
    let group = index % params.groups;
    let sample = index / params.groups;
    if sample >= params.batch {
        return;
    }
    let size = params.group_blocks * params.pixels;
    var sum = vec4<f32>(0.0);
    for (var i = thread.index; i < size; i += THREADS) {
        sum += vec4<f32>(x[place(sample, group, i)]);
    }
    let mean = dot(workgroup_sum(thread, sum), vec4<f32>(1.0)) / f32(4u * size);
    var squares = vec4<f32>(0.0);
    for (var i = thread.index; i < size; i += THREADS) {
        let d = vec4<f32>(x[place(sample, group, i)]) - mean;
        squares += d * d;
    }
    let variance = dot(workgroup_sum(thread, squares), vec4<f32>(1.0)) / f32(4u * size);
    let inverse = 1.0 / sqrt(variance + params.epsilon);

    let own_style = params.style_offset + sample * params.style_stride;
    let channels = 4u * params.groups * params.group_blocks;
    for (var block = 0u; block < params.group_blocks; block++) {
        let channel = 4u * (group * params.group_blocks + block);
        let factor = inverse * (four(own_style + channel) + params.scale_offset);
        let offset = four(own_style + channels + channel) - mean * factor;
        for (var pixel = thread.index; pixel < params.pixels; pixel += THREADS) {
            let at = place(sample, group, block * params.pixels + pixel);
            y[at] = Written(activate(vec4<f32>(x[at]) * factor + offset));
        }
    }
}
