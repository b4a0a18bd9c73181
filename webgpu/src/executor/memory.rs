//! Decides which values share a buffer: those that are never needed at the same time.

use std::collections::BTreeSet;

use super::program::{Operand, Program, ValueId};

/// Buffers for the values of a program.
#[derive(Debug, Default)]
pub struct MemoryPlan {
    /// The buffer of each value.
    pub buffer_of: Vec<usize>,
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
}

impl MemoryPlan {
    pub fn new(program: &Program) -> Self {
        let last_use = last_uses(program);
        let mut plan = Self { buffer_of: vec![0; program.values.len()], buffers: Vec::new() };
        let mut free = Vec::new();
        // Inputs are written before the first dispatch, so they never share with each other or what comes early.
        let inputs: BTreeSet<ValueId> = program.inputs.values().map(|input| input.value).collect();
        for input in inputs {
            plan.buffers.push(program.values[input].bytes);
            plan.buffer_of[input] = plan.buffers.len() - 1;
        }
        let whole = |value| whole(program, value);
        let mut begun = vec![false; program.values.len()];
        for (i, step) in program.steps.iter().enumerate() {
            let write = whole(step.write);
            if !std::mem::replace(&mut begun[write], true) {
                plan.buffer_of[write] = plan.take(&mut free, program.values[write].bytes);
            }
            let mut ended: Vec<usize> = step.reads.iter().filter_map(value).map(whole).collect();
            ended.push(write);
            ended.sort_unstable();
            ended.dedup();
            free.extend(
                ended.into_iter().filter(|&value| last_use[value] == Some(i)).map(|value| plan.buffer_of[value]),
            );
        }
        program.parts.keys().for_each(|&part| plan.buffer_of[part] = plan.buffer_of[whole(part)]);
        plan
    }

    /// The smallest free buffer that is large enough, else the largest free one, enlarged, else a new one.
    fn take(&mut self, free: &mut Vec<usize>, bytes: u64) -> usize {
        let large_enough =
            (0..free.len()).filter(|&i| self.buffers[free[i]] >= bytes).min_by_key(|&i| self.buffers[free[i]]);
        let largest = || (0..free.len()).max_by_key(|&i| self.buffers[free[i]]);
        match large_enough.or_else(largest) {
            Some(i) => {
                let buffer = free.swap_remove(i);
                self.buffers[buffer] = self.buffers[buffer].max(bytes);
                buffer
            }
            None => {
                self.buffers.push(bytes);
                self.buffers.len() - 1
            }
        }
    }
}

fn value(operand: &Operand) -> Option<usize> {
    match operand {
        Operand::Value(value) => Some(*value),
        Operand::Constant(_) => None,
    }
}

/// The value that a value lies in: itself, if in no other.
fn whole(program: &Program, value: ValueId) -> ValueId {
    program.parts.get(&value).map_or(value, |(whole, _)| *whole)
}

/// The last step that touches each value or a part of it; `None` for those that are read after the run.
fn last_uses(program: &Program) -> Vec<Option<usize>> {
    let mut last = vec![Some(0); program.values.len()];
    for (i, step) in program.steps.iter().enumerate() {
        last[whole(program, step.write)] = Some(i);
        step.reads.iter().filter_map(value).for_each(|value| last[whole(program, value)] = Some(i));
    }
    program.outputs.values().filter_map(|output| value(&output.operand)).for_each(|value| last[value] = None);
    last
}
