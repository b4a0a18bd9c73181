// Sums over the threads of a workgroup, by a tree in its memory.

struct Thread {
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> partial_sums: array<vec4<f32>, THREADS>;

// The sum of `value` over the threads of the workgroup.
fn workgroup_sum(thread: Thread, value: vec4<f32>) -> vec4<f32> {
    // What an earlier sum left there may still be read.
    workgroupBarrier();
    partial_sums[thread.index] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread.index < half {
            partial_sums[thread.index] += partial_sums[thread.index + half];
        }
        workgroupBarrier();
    }
    return partial_sums[0];
}
