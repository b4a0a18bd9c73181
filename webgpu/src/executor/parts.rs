//! Concatenation without a dispatch: what is to be concatenated is computed where it belongs in the result.
//!
//! Groups of channels follow each other in memory, so that it takes no more than an offset.

use super::program::{Operand, Program, Step, ValueId};

/// Offsets of bindings are multiples of this by WebGPU's default limits.
pub const ALIGNMENT: u64 = 256;

/// Drops those of the steps `concats`, each the concatenation of two values, that can be done without.
pub fn place(program: &mut Program, concats: &[usize]) {
    let placed: Vec<usize> = concats.iter().copied().filter(|&concat| place_one(program, concat)).collect();
    let mut index = 0..;
    program.steps.retain(|_| index.next().is_none_or(|index| !placed.contains(&index)));
}

fn place_one(program: &mut Program, concat: usize) -> bool {
    let Step { reads, write, .. } = &program.steps[concat];
    let (&[Operand::Value(a), Operand::Value(b)], y) = (reads.as_slice(), *write) else { return false };
    let offset = program.values[a].bytes;
    if a == b || !offset.is_multiple_of(ALIGNMENT) || ![a, b].iter().all(|&part| is_free(program, part, y)) {
        return false;
    }
    // A dispatch cannot read and write one buffer.
    let of_both = |step: &Step| {
        let touched = [a, b].map(|part| step.write == part || step.reads.contains(&Operand::Value(part)));
        touched == [true; 2] && (step.write == a || step.write == b)
    };
    if program.steps.iter().any(of_both) {
        return false;
    }
    program.parts.extend([(a, (y, 0)), (b, (y, offset))]);
    true
}

/// Whether a value can become a part of `y`: a kernel writes it, nobody outside reads it, its numbers are those of `y`,
/// and neither is part of another.
fn is_free(program: &Program, part: ValueId, y: ValueId) -> bool {
    let Program { values, steps, inputs, outputs, parts, .. } = program;
    let computed = steps.iter().any(|step| step.write == part) && inputs.values().all(|input| input.value != part);
    let inner = outputs.values().all(|output| output.operand != Operand::Value(part));
    let hosts = || parts.values().map(|(host, _)| *host);
    let alone = [part, y].iter().all(|value| !parts.contains_key(value)) && hosts().all(|host| host != part);
    computed && inner && alone && values[part].numbers == values[y].numbers
}
