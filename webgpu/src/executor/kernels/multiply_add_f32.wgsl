// Products in f32.

alias Factor = vec4<f32>;
alias Matrix = mat4x4<f32>;

// What four output channels gain from four input channels, to which the columns of the weights belong.
fn multiply_add(w: Matrix, x: Factor, sum: vec4<f32>) -> vec4<f32> {
    let first = fma(w[0], Factor(x.x), fma(w[1], Factor(x.y), sum));
    return fma(w[2], Factor(x.z), fma(w[3], Factor(x.w), first));
}
