// Weights in f32: the weights of one input channel for four output channels.

alias Column = vec4<f32>;

fn unpacked(column: Column) -> vec4<f32> {
    return column;
}
