// Draws a batch of images as a grid, one texel for each pixel.

struct Params {
    // Size of one image.
    width: u32,
    height: u32,
    images: u32,
    columns: u32,
    // Whether the images have one channel.
    grey: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> images: array<vec4<f32>>; // (N, 1, H, W)

// One triangle that covers the whole view.
@vertex
fn vertex(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
    let corner = vec2<f32>(f32(index % 2u), f32(index / 2u));
    return vec4<f32>(corner * 4.0 - 1.0, 0.0, 1.0);
}

@fragment
fn fragment(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    let texel = vec2<u32>(position.xy);
    let column = texel.x / params.width;
    let image = texel.y / params.height * params.columns + column;
    if column >= params.columns || image >= params.images {
        return vec4<f32>(0.0);
    }
    let pixel = (image * params.height + texel.y % params.height) * params.width + texel.x % params.width;
    let value = images[pixel];
    let colour = select(value.rgb, value.rrr, params.grey == 1u);
    // Rounded here, so that every driver's conversion to bytes gives the same.
    let bytes = floor((clamp(colour, vec3<f32>(-1.0), vec3<f32>(1.0)) + 1.0) * 127.5 + 0.5);
    return vec4<f32>(bytes / 255.0, 1.0);
}
