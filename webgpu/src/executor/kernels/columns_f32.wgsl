// Weights in f32: a column holds those of one input channel for four output channels.

alias Column = vec4<f32>;

fn unpacked(column: Column) -> Factor {
    return column;
}
