// Sums over the threads of a workgroup, by subgroups, for adapters that have them.

struct Thread {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}

// One for each subgroup, of which there are no more than thread.
var<workgroup> partial_sums: array<vec4<f32>, THREADS>;

// The sum of `value` over the threads of the workgroup.
fn workgroup_sum(thread: Thread, value: vec4<f32>) -> vec4<f32> {
    let partial_sum = subgroupAdd(value);
    // What an earlier sum left there may still be read.
    workgroupBarrier();
    if thread.lane == 0u {
        partial_sums[thread.subgroup] = partial_sum;
    }
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    for (var subgroup = 0u; subgroup < thread.subgroups; subgroup++) {
        sum += partial_sums[subgroup];
    }
    return sum;
}
