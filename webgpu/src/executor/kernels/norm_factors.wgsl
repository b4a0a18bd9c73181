// What scale_shift.wgsl multiplies and adds for a group norm, from the moments that channel_moments.wgsl found. One
// workgroup for each sample and group.

struct Params {
    batch: u32,
    groups: u32,
    group_channels: u32,
    pixels: u32,
    parts: u32,
    // Pixels of every part but the last.
    span: u32,
    // Where the first sample's style starts, and the distance to the next in f32: 0 if they share one.
    style_offset: u32,
    style_stride: u32,
    // Added to the scale: 1 for adaptive norms.
    scale_offset: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> moments: array<f32>; // (C4, N, parts, 2, 4): mean, sum of squared deviations
@group(0) @binding(2) var<storage, read> style: array<f32>; // (1 or N, 2 C): scales, then shifts
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (N, 2, 4 C4): factors, then offsets

// This thread's share of the sum over the group of x, or of the squared deviations from `mean`; four times the same.
fn share(sample: u32, group: u32, thread: u32, mean: f32, squared: bool) -> vec4<f32> {
    var sum = 0.0;
    for (var i = thread; i < params.group_channels * params.parts; i += THREADS) {
        let channel = group * params.group_channels + i / params.parts;
        let part = i % params.parts;
        let at = (((channel / 4u * params.batch + sample) * params.parts + part) * 2u) * 4u + channel % 4u;
        let count = f32(min(params.span, params.pixels - part * params.span));
        let d = moments[at] - mean;
        sum += select(count * moments[at], moments[at + 4u] + count * d * d, squared);
    }
    return vec4<f32>(sum);
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
    let count = f32(params.group_channels * params.pixels);
    let mean = workgroup_sum(thread, share(sample, group, thread.index, 0.0, false)).x / count;
    let variance = workgroup_sum(thread, share(sample, group, thread.index, mean, true)).x / count;
    let inverse = 1.0 / sqrt(variance + params.epsilon);

    let channels = params.groups * params.group_channels;
    let width = (channels + 3u) / 4u * 4u;
    let own_style = params.style_offset + sample * params.style_stride;
    for (var i = thread.index; i < params.group_channels; i += THREADS) {
        let channel = group * params.group_channels + i;
        let factor = inverse * (style[own_style + channel] + params.scale_offset);
        y[sample * 2u * width + channel] = factor;
        y[(sample * 2u + 1u) * width + channel] = style[own_style + channels + channel] - mean * factor;
    }
    // Channels that do not exist stay zero.
    if group == 0u && thread.index < width - channels {
        y[sample * 2u * width + channels + thread.index] = 0.0;
        y[(sample * 2u + 1u) * width + channels + thread.index] = 0.0;
    }
}
