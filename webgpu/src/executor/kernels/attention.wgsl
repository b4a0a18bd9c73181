// Single-head attention over all positions: y = softmax(qᵀk / sqrt(C)) v.
//
// One workgroup computes QUERIES positions and up to CHUNK blocks of channels. It walks over the keys in tiles and keeps
// a running maximum and total for each query (online softmax), so that no matrix of weights is stored.
//
// Given with the source, because it sizes an array: CHUNK, a multiple of THREADS / QUERIES.

const QUERIES: u32 = 8u;
const KEYS: u32 = 32u;
// Logits of each thread: of one key, with every second query.
const LOGITS: u32 = QUERIES * KEYS / THREADS;
// vec4 of y for each thread.
const SUMS: u32 = CHUNK * QUERIES / THREADS;

struct Params {
    batch: u32,
    blocks: u32,
    positions: u32,
    // Where the groups of four channels of k and v start in their image, which may be that of q.
    first_k: u32,
    first_v: u32,
    // 1 / sqrt(C)
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Read1>; // (blocks of all, N, H, W), as k and v
@group(0) @binding(2) var<storage, read> k: array<Read2>;
@group(0) @binding(3) var<storage, read> v: array<Read3>;
@group(0) @binding(4) var<storage, read_write> y: array<Written>; // (C4, N, H, W)

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
    // From a group of four channels to the next.
    let plane = params.batch * params.positions;
    let first_q = sample * params.positions;
    let first_k = first_q + params.first_k * plane;
    let first_v = first_q + params.first_v * plane;
    // A thread sums for one query, over every eighth block of the chunk.
    let own_query = thread % QUERIES;
    let own_block = first_block + thread / QUERIES;
    if thread < QUERIES {
        peak[thread] = -1e30;
        total[thread] = 0.0;
    }
    var sum: array<vec4<f32>, SUMS>;
    for (var first_key = 0u; first_key < params.positions; first_key += KEYS) {
        let keys = min(params.positions - first_key, KEYS);
        let key = min(first_key + thread % KEYS, params.positions - 1u);
        // Zeros in so many words: without them Chromium on SwiftShader keeps those of the last round.
        var logits = array<f32, LOGITS>();
        for (var block = 0u; block < params.blocks; block++) {
            let value = vec4<f32>(k[first_k + block * plane + key]);
            for (var i = 0u; i < LOGITS; i++) {
                let query = min(first_query + thread / KEYS + i * (THREADS / KEYS), params.positions - 1u);
                logits[i] += dot(vec4<f32>(q[first_q + block * plane + query]), value);
            }
        }
        for (var i = 0u; i < LOGITS; i++) {
            weights[thread + i * THREADS] = logits[i] * params.scale;
        }
        workgroupBarrier();
        if thread < QUERIES {
            soften(thread, keys);
        }
        workgroupBarrier();
        for (var i = 0u; i < SUMS; i++) {
            sum[i] *= rescale[own_query];
        }
        for (var key = 0u; key < keys; key++) {
            let weight = weights[own_query * KEYS + key];
            for (var i = 0u; i < SUMS; i++) {
                // A block that does not exist repeats the last one; its sums are not stored.
                let block = min(own_block + i * (THREADS / QUERIES), params.blocks - 1u);
                sum[i] += weight * vec4<f32>(v[first_v + block * plane + first_key + key]);
            }
        }
        workgroupBarrier();
    }
    let query = first_query + own_query;
    for (var i = 0u; i < SUMS; i++) {
        let block = own_block + i * (THREADS / QUERIES);
        if block < params.blocks && query < params.positions {
            y[first_q + block * plane + query] = Written(sum[i] / total[own_query]);
        }
    }
}
