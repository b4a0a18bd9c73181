// The standard deviation over the samples of a group, averaged over channels and pixels, as an image of one channel.
// One workgroup for each group; sample g * groups + m belongs to group m.

struct Params {
    groups: u32,
    // Samples of a group.
    members: u32,
    channels: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read_write> y: array<Written>; // (1, N, H, W)

// Where pixel number `i` of a sample lies, the pixels of its first four channels before those of the next.
fn place(sample: u32, i: u32) -> u32 {
    return (i / params.pixels * params.groups * params.members + sample) * params.pixels + i % params.pixels;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    thread: Thread,
) {
    let group = folded(workgroup_id, grid);
    if group >= params.groups {
        return;
    }
    let blocks = (params.channels + 3u) / 4u;
    let size = blocks * params.pixels;
    let members = f32(params.members);
    var sum = 0.0;
    for (var i = thread.index; i < size; i += THREADS) {
        var own_mean = vec4<f32>(0.0);
        for (var member = 0u; member < params.members; member++) {
            own_mean += vec4<f32>(x[place(member * params.groups + group, i)]) / members;
        }
        var variance = vec4<f32>(0.0);
        for (var member = 0u; member < params.members; member++) {
            let d = vec4<f32>(x[place(member * params.groups + group, i)]) - own_mean;
            variance += d * d / members;
        }
        let stddev = sqrt(variance + SQUARES_EPSILON);
        let lanes = min(params.channels - i / params.pixels * 4u, 4u);
        for (var lane = 0u; lane < lanes; lane++) {
            sum += stddev[lane];
        }
    }
    let mean = workgroup_sum(thread, vec4<f32>(sum)).x / f32(params.channels * params.pixels);
    let value = vec4<f32>(mean, 0.0, 0.0, 0.0);
    for (var i = thread.index; i < params.members * params.pixels; i += THREADS) {
        let sample = i / params.pixels * params.groups + group;
        y[sample * params.pixels + i % params.pixels] = Written(value);
    }
}
