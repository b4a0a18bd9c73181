// Weights in f16, which needs no feature of the adapter: the weights of one input channel for four output channels.

alias Column = vec2<u32>;

fn unpacked(column: Column) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(column.x), unpack2x16float(column.y));
}
