// Single-head attention over all positions: y = softmax(qᵀk / sqrt(C)) v.
//
// One workgroup computes QUERIES positions and up to CHUNK blocks of channels. It walks over the keys in tiles and keeps
// a running maximum and total for each query (online softmax), so that no matrix of weights is stored.

const QUERIES: u32 = 8u;
const KEYS: u32 = 32u;
const CHUNK: u32 = 64u;
// vec4 of y for each thread.
const SUMS: u32 = CHUNK * QUERIES / THREADS;

struct Params {
    batch: u32,
    blocks: u32,
    positions: u32,
    // 1 / sqrt(C)
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Read1>; // (N, C4, H, W)
@group(0) @binding(2) var<storage, read> k: array<Read2>; // (N, C4, H, W)
@group(0) @binding(3) var<storage, read> v: array<Read3>; // (N, C4, H, W)
@group(0) @binding(4) var<storage, read_write> y: array<Written>; // (N, C4, H, W)

var<workgroup> weights: array<f32, QUERIES * KEYS>; // logits, then weights of one tile
var<workgroup> peak: array<f32, QUERIES>; // largest logit so far
var<workgroup> total: array<f32, QUERIES>; // sum of weights so far, relative to the peak
var<workgroup> rescale: array<f32, QUERIES>; // what the rise of the peak makes of earlier sums

// exp for arguments up to zero; WGSL does not promise a limit for very negative ones.
fn decay(x: f32) -> f32 {
    return exp(max(x, -80.0));
}

// Turns the logits of one query into weights, and moves its running maximum and total.
fn soften(query: u32, keys: u32) {
    var top = peak[query];
    for (var key = 0u; key < keys; key++) {
        top = max(top, weights[query * KEYS + key]);
    }
    let factor = decay(peak[query] - top);
    var sum = 0.0;
    for (var key = 0u; key < keys; key++) {
        let weight = decay(weights[query * KEYS + key] - top);
        weights[query * KEYS + key] = weight;
        sum += weight;
    }
    total[query] = total[query] * factor + sum;
    rescale[query] = factor;
    peak[query] = top;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (params.positions + QUERIES - 1u) / QUERIES;
    let chunks = (params.blocks + CHUNK - 1u) / CHUNK;
    let index = folded(workgroup_id, grid);
    let first_query = index % tiles * QUERIES;
    let first_block = index / tiles % chunks * CHUNK;
    let sample = index / (tiles * chunks);
    if sample >= params.batch {
        return;
    }
    let start = sample * params.blocks * params.positions;
    let sums = min(params.blocks - first_block, CHUNK) * QUERIES;
    if thread < QUERIES {
        peak[thread] = -1e30;
        total[thread] = 0.0;
    }
    var sum: array<vec4<f32>, SUMS>;
    for (var first_key = 0u; first_key < params.positions; first_key += KEYS) {
        let keys = min(params.positions - first_key, KEYS);
        for (var i = thread; i < QUERIES * KEYS; i += THREADS) {
            let query = min(first_query + i / KEYS, params.positions - 1u);
            let key = min(first_key + i % KEYS, params.positions - 1u);
            var logit = 0.0;
            for (var block = 0u; block < params.blocks; block++) {
                let plane = start + block * params.positions;
                logit += dot(vec4<f32>(q[plane + query]), vec4<f32>(k[plane + key]));
            }
            weights[i] = logit * params.scale;
        }
        workgroupBarrier();
        if thread < QUERIES {
            soften(thread, keys);
        }
        workgroupBarrier();
        for (var i = 0u; i < SUMS; i++) {
            let item = thread + i * THREADS;
            if item < sums {
                let query = item % QUERIES;
                let values = start + (first_block + item / QUERIES) * params.positions + first_key;
                var value = sum[i] * rescale[query];
                for (var key = 0u; key < keys; key++) {
                    value += weights[query * KEYS + key] * vec4<f32>(v[values + key]);
                }
                sum[i] = value;
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < SUMS; i++) {
        let item = thread + i * THREADS;
        let query = first_query + item % QUERIES;
        if item < sums && query < params.positions {
            y[start + (first_block + item / QUERIES) * params.positions + query] = Written(sum[i] / total[item % QUERIES]);
        }
    }
}
