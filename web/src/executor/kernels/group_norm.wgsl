// The statistics of a group norm, as what scale_shift.wgsl multiplies and adds. One workgroup for each sample and group;
// mean and variance in the two passes of the textbook.

// Whether the channels of a group fill whole vec4.
override ALIGNED: bool = false;

struct Params {
    batch: u32,
    groups: u32,
    group_channels: u32,
    pixels: u32,
    // Distance between the styles of two samples in f32: 0 if they share one.
    style_stride: u32,
    // Added to the scale: 1 for adaptive norms.
    scale_offset: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (N, C4, H, W)
@group(0) @binding(2) var<storage, read> style: array<f32>; // (1 or N, 2 C): scales, then shifts
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (N, 2, 4 C4): factors, then offsets

var<workgroup> partial_sums: array<f32, THREADS>;

// The sum of `value` over the threads of the workgroup.
fn sum_of(thread: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial_sums[thread] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            partial_sums[thread] += partial_sums[thread + half];
        }
        workgroupBarrier();
    }
    return partial_sums[0];
}

// This thread's share of the sum over the group of x - mean, or of its square.
fn share(sample: u32, group: u32, thread: u32, mean: f32, squared: bool) -> f32 {
    let channels = params.groups * params.group_channels;
    let blocks = (channels + 3u) / 4u;
    var sum = vec4<f32>(0.0);
    if ALIGNED {
        let count = params.group_channels / 4u * params.pixels;
        let start = sample * blocks * params.pixels + group * count;
        for (var i = thread; i < count; i += THREADS) {
            let d = vec4<f32>(x[start + i]) - mean;
            sum += select(d, d * d, squared);
        }
    } else {
        for (var i = thread; i < params.group_channels * params.pixels; i += THREADS) {
            let channel = group * params.group_channels + i / params.pixels;
            let value = vec4<f32>(x[(sample * blocks + channel / 4u) * params.pixels + i % params.pixels]);
            let d = value[channel % 4u] - mean;
            sum.x += select(d, d * d, squared);
        }
    }
    return sum.x + sum.y + sum.z + sum.w;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = folded(workgroup_id, grid);
    let group = index % params.groups;
    let sample = index / params.groups;
    if sample >= params.batch {
        return;
    }
    let count = f32(params.group_channels * params.pixels);
    let mean = sum_of(thread, share(sample, group, thread, 0.0, false)) / count;
    let variance = sum_of(thread, share(sample, group, thread, mean, true)) / count;
    let inverse = 1.0 / sqrt(variance + params.epsilon);

    let channels = params.groups * params.group_channels;
    let width = (channels + 3u) / 4u * 4u;
    for (var i = thread; i < params.group_channels; i += THREADS) {
        let channel = group * params.group_channels + i;
        let scale = style[sample * params.style_stride + channel] + params.scale_offset;
        let shift = style[sample * params.style_stride + channels + channel];
        let factor = inverse * scale;
        y[sample * 2u * width + channel] = factor;
        y[(sample * 2u + 1u) * width + channel] = shift - mean * factor;
    }
    // Channels that do not exist stay zero.
    if group == 0u && thread < width - channels {
        y[sample * 2u * width + channels + thread] = 0.0;
        y[(sample * 2u + 1u) * width + channels + thread] = 0.0;
    }
}
