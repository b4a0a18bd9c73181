//! Until when values are needed, and which of them can share a buffer: those that are never needed at the same time.

/// The last step that touches each of so many values; `None` for the outputs, which are read after all steps. A step
/// is the values that it reads and writes.
pub fn last_uses<S: IntoIterator<Item = usize>>(
    values: usize,
    steps: impl IntoIterator<Item = S>,
    outputs: impl IntoIterator<Item = usize>,
) -> Vec<Option<usize>> {
    let mut last = vec![Some(0); values];
    for (i, step) in steps.into_iter().enumerate() {
        step.into_iter().for_each(|value| last[value] = Some(i));
    }
    outputs.into_iter().for_each(|value| last[value] = None);
    last
}

/// The values that a step of a program touches.
#[derive(Debug, Clone)]
pub struct Step {
    /// The value that is written.
    pub write: usize,
    /// The values that are read.
    pub reads: Vec<usize>,
}

/// Buffers for the values of a program.
#[derive(Debug, Default)]
pub struct BufferPlan {
    /// The buffer of each value.
    pub buffer_of: Vec<usize>,
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
}

impl BufferPlan {
    /// For values of so many bytes each, some of which are given before the first step or read after the last. A value
    /// that several steps write, each a part of it, exists from the first of them on.
    pub fn new(
        bytes: &[u64],
        inputs: impl IntoIterator<Item = usize>,
        steps: &[Step],
        outputs: impl IntoIterator<Item = usize>,
    ) -> Self {
        let touched = steps.iter().map(|step| step.reads.iter().copied().chain([step.write]));
        let last_uses = last_uses(bytes.len(), touched, outputs);
        let mut plan = Self { buffer_of: vec![0; bytes.len()], buffers: Vec::new() };
        let mut begun = vec![false; bytes.len()];
        // Inputs are written before the first step, so they never share with each other or what comes early.
        for input in inputs {
            plan.buffers.push(bytes[input]);
            plan.buffer_of[input] = plan.buffers.len() - 1;
            begun[input] = true;
        }
        let mut free = Vec::new();
        for (i, Step { write, reads }) in steps.iter().enumerate() {
            if !std::mem::replace(&mut begun[*write], true) {
                plan.buffer_of[*write] = plan.take(&mut free, bytes[*write]);
            }
            let mut ended: Vec<usize> = reads.iter().chain([write]).copied().collect();
            ended.sort_unstable();
            ended.dedup();
            let over = ended.into_iter().filter(|&value| last_uses[value] == Some(i));
            free.extend(over.map(|value| plan.buffer_of[value]));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_share_a_buffer_only_when_they_are_never_needed_together() {
        // 0 is given; 1 = f(0), 2 = f(1), 3 = f(2), 4 = f(3, 1); 4 is read at the end.
        let step = |write, reads: &[usize]| Step { write, reads: reads.to_vec() };
        let steps = [step(1, &[0]), step(2, &[1]), step(3, &[2]), step(4, &[3, 1])];
        let plan = BufferPlan::new(&[8, 4, 2, 6, 4], [0], &steps, [4]);
        // 2 takes the buffer of 0, 3 needs another while 2 is read, and 4 takes that of 2.
        assert_eq!(plan.buffer_of, [0, 1, 0, 2, 0]);
        assert_eq!(plan.buffers, [8, 4, 6]);
    }
}
