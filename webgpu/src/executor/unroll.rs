//! Writes out what a thread of a convolution does for each of its pixels and blocks.
//!
//! Loops over arrays would say the same, but on lavapipe convolutions took twice as long with them: an array is memory unless
//! the compiler unrolls every loop over it.

/// Repeats every line with `$p` for the numbers below `PIXELS`, every line with `$b` for those below `BLOCKS`, and replaces them;
/// `$q` is the number after `$p`, `$n` is `PIXELS`.
pub fn unroll(text: &str, constants: &[(&str, u32)]) -> String {
    let constant = |name| constants.iter().find(|(constant, _)| *constant == name).map_or(0, |(_, value)| *value);
    let (pixels, blocks) = (constant("PIXELS"), constant("BLOCKS"));
    let times = |line: &str, name, count| if line.contains(name) { count } else { 1 };
    let written_out = |line: &str| -> String {
        let numbers = (0..times(line, "$b", blocks)).flat_map(|b| (0..times(line, "$p", pixels)).map(move |p| (b, p)));
        let one = |(b, p): (u32, u32)| {
            let values = [("$b", b), ("$p", p), ("$q", p + 1), ("$n", pixels)];
            values.iter().fold(line.to_string() + "\n", |line, (name, value)| line.replace(name, &value.to_string()))
        };
        numbers.map(one).collect()
    };
    text.lines().map(written_out).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_repeated_for_pixels_and_blocks() {
        let text = "let x_$n = 0;\nx_$p = x_$q;\nsum_$b_$p += w_$b;\n";
        let expected = "let x_2 = 0;\nx_0 = x_1;\nx_1 = x_2;\nsum_0_0 += w_0;\nsum_0_1 += w_0;\nsum_1_0 += w_1;\nsum_1_1 += w_1;\n";
        assert_eq!(unroll(text, &[("PIXELS", 2), ("BLOCKS", 2)]), expected);
        assert_eq!(unroll("a = $b;\nc\n", &[("BLOCKS", 3)]), "a = 0;\na = 1;\na = 2;\nc\n");
    }
}
