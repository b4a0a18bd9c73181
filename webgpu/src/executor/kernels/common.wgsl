// Every kernel starts with this text. The constants of all backends, LEAKY_SLOPE and SQUARES_EPSILON, come before it.
//
// Images are (ceil(C / 4), N, H, W) of vec4: four neighbouring channels of one pixel lie together, and channels that do
// not exist are zero. Vectors are (N, ceil(C / 4)). In the comments on bindings, C4 stands for ceil(C / 4).

// The activation that ends a kernel: 0 identity, 1 SiLU, 2 tanh, 3 leaky ReLU.
override ACTIVATION: u32 = 0u;

const THREADS: u32 = 64u;

// The index of a workgroup in a grid that is folded to respect the limit per dimension.
fn folded(workgroup_id: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup_id.y * grid.x + workgroup_id.x;
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: {
            // The clamp keeps exp finite: WGSL does not promise infinities.
            let clamped = max(x, vec4<f32>(-80.0));
            return clamped / (1.0 + exp(-clamped));
        }
        case 2u: {
            // Not WGSL's tanh, which may overflow for large arguments.
            let e = exp(-2.0 * min(abs(x), vec4<f32>(20.0)));
            return sign(x) * ((1.0 - e) / (1.0 + e));
        }
        case 3u: {
            return max(x, LEAKY_SLOPE * x);
        }
        default: {
            return x;
        }
    }
}
