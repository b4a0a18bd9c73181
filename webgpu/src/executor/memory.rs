//! Decides which values share a buffer. A value that lies in another is where the other is.

use std::collections::BTreeSet;

use lddgan::graph::liveness::{BufferPlan, Step};

use super::program::{Operand, Program, ValueId};

/// Buffers for the values of a program.
pub fn plan(program: &Program) -> BufferPlan {
    let whole = |value: ValueId| program.parts.get(&value).map_or(value, |(whole, _)| *whole);
    let bytes: Vec<u64> = program.values.iter().map(|value| value.bytes).collect();
    let inputs: BTreeSet<ValueId> = program.inputs.values().map(|input| input.value).collect();
    let steps = program
        .steps
        .iter()
        .map(|step| Step { write: whole(step.write), reads: step.reads.iter().filter_map(value).map(whole).collect() });
    let outputs = program.outputs.values().filter_map(|output| value(&output.operand));
    let mut plan = BufferPlan::new(&bytes, inputs, &steps.collect::<Vec<_>>(), outputs);
    program.parts.keys().for_each(|&part| plan.buffer_of[part] = plan.buffer_of[whole(part)]);
    plan
}

fn value(operand: &Operand) -> Option<ValueId> {
    match operand {
        Operand::Value(value) => Some(*value),
        Operand::Constant(_) => None,
    }
}
