// Products, and sums of four of them, in f16; longer sums in f32.

alias Factor = vec4<f16>;
alias Matrix = mat4x4<f16>;

// What four output channels gain from four input channels, to which the columns of the weights belong.
fn multiply_add(w: Matrix, x: Factor, sum: vec4<f32>) -> vec4<f32> {
    return sum + vec4<f32>(w * x);
}
