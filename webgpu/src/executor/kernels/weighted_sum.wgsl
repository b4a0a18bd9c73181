// The sum of up to three values, each times its factor, then the activation.

override TERMS: u32 = 1u;

struct Params {
    // vec4 in y.
    count: u32,
    factor_a: f32,
    factor_b: f32,
    factor_c: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Read1>; // (C4, N, H, W)
@group(0) @binding(2) var<storage, read> b: array<Read2>; // as a; not read unless TERMS > 1
@group(0) @binding(3) var<storage, read> c: array<Read3>; // as a; not read unless TERMS > 2
@group(0) @binding(4) var<storage, read_write> y: array<Written>; // as a

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
    var sum = params.factor_a * vec4<f32>(a[index]);
    if TERMS > 1u {
        sum += params.factor_b * vec4<f32>(b[index]);
    }
    if TERMS > 2u {
        sum += params.factor_c * vec4<f32>(c[index]);
    }
    y[index] = Written(activate(sum));
}
