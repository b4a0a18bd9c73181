// What an adapter reaches at most: multiply-adds on registers, and a copy from memory to memory.

const THREADS: u32 = 256u;

struct Params {
    // Rounds of multiply-adds of a thread; not known at compile time, so that none can be left out.
    rounds: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// 8 independent sums, each multiplied and added to 4 times a round: 8 * 4 * 4 multiply-adds of one number each.
@compute @workgroup_size(THREADS)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let f = vec4<f32>(params.factor);
    // Not zero, whose products some processors treat in their own way.
    let start = x[id.x] + 1.0;
    var a = start;
    var b = start + 1.0;
    var c = start + 2.0;
    var d = start + 3.0;
    var e = start + 4.0;
    var g = start + 5.0;
    var h = start + 6.0;
    var i = start + 7.0;
    for (var round = 0u; round < params.rounds; round++) {
        for (var repeat = 0u; repeat < 4u; repeat++) {
            a = fma(a, f, start);
            b = fma(b, f, start);
            c = fma(c, f, start);
            d = fma(d, f, start);
            e = fma(e, f, start);
            g = fma(g, f, start);
            h = fma(h, f, start);
            i = fma(i, f, start);
        }
    }
    y[id.x] = a + b + c + d + e + g + h + i;
}

@compute @workgroup_size(THREADS)
fn copy(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x];
}
