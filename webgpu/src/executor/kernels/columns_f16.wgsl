// Weights in f16, which needs no feature of the adapter: a column holds those of one input channel for four output
// channels.

alias Column = vec2<u32>;

fn unpacked(column: Column) -> Factor {
    return Factor(vec4<f32>(unpack2x16float(column.x), unpack2x16float(column.y)));
}
