//! Which process of a run this is, from the environment of whatever started it.

use super::DistributedError;

/// This process among those that were started together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// 0 to `size` - 1.
    pub rank: usize,
    /// How many processes there are.
    pub size: usize,
    /// This process among those of its machine: the number of its GPU, counted round where fewer are visible.
    pub local_rank: usize,
}

/// The environment variables of one way to start processes.
struct Launcher {
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
}

/// Of SLURM it is the size of the step, which `srun` sets: SLURM_NTASKS is there in a batch script too, whose commands
/// run once. PMI stands for MPICH and its relatives.
const LAUNCHERS: [Launcher; 4] = [
    Launcher { rank: "OMPI_COMM_WORLD_RANK", size: "OMPI_COMM_WORLD_SIZE", local_rank: "OMPI_COMM_WORLD_LOCAL_RANK" },
    Launcher { rank: "SLURM_PROCID", size: "SLURM_STEP_NUM_TASKS", local_rank: "SLURM_LOCALID" },
    Launcher { rank: "PMI_RANK", size: "PMI_SIZE", local_rank: "MPI_LOCALRANKID" },
    Launcher { rank: "RANK", size: "WORLD_SIZE", local_rank: "LOCAL_RANK" },
];

impl Launch {
    /// As `mpirun`, `srun` or `torchrun` say it; a process that none of them started is alone.
    pub fn from_environment() -> Result<Self, DistributedError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, DistributedError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let parse = |name: &'static str, value: String| {
            value.parse::<usize>().map_err(|_| DistributedError::Variable { name, value })
        };
        let number = |name: &'static str| variable(name).map(|value| parse(name, value)).transpose();
        let missing = |name: &'static str| DistributedError::Variable { name, value: String::new() };
        let Some(launcher) = LAUNCHERS.iter().find(|launcher| variable(launcher.size).is_some()) else {
            return Ok(Self { rank: 0, size: 1, local_rank: 0 });
        };
        let size = number(launcher.size)?.ok_or_else(|| missing(launcher.size))?;
        // Some systems set them everywhere, and not all of them.
        if size == 1 {
            return Ok(Self { rank: 0, size: 1, local_rank: number(launcher.local_rank)?.unwrap_or(0) });
        }
        let rank = number(launcher.rank)?.ok_or_else(|| missing(launcher.rank))?;
        if rank >= size {
            return Err(DistributedError::Variable { name: launcher.rank, value: rank.to_string() });
        }
        // Where nobody says it, processes are taken to fill one machine after the other.
        Ok(Self { rank, size, local_rank: number(launcher.local_rank)?.unwrap_or(rank) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Launch, String> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        Launch::from_variables(find).map_err(|error| error.to_string())
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        assert_eq!(launch(&[("HOME", "/root")]), Ok(Launch { rank: 0, size: 1, local_rank: 0 }));
        for Launcher { rank, size, local_rank } in LAUNCHERS {
            let found = launch(&[(rank, "5"), (size, "8"), (local_rank, "1")]);
            assert_eq!(found, Ok(Launch { rank: 5, size: 8, local_rank: 1 }));
        }
    }

    /// What SLURM sets in the shell of a batch script, where a command runs once.
    #[test]
    fn a_batch_script_is_one_process() {
        let variables = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0")];
        assert_eq!(launch(&variables).map(|launch| launch.size), Ok(1));
    }

    /// What operators set in every pod, and `mpirun` for one process.
    #[test]
    fn one_process_needs_to_know_nothing_more() {
        let alone = Ok(Launch { rank: 0, size: 1, local_rank: 0 });
        for Launcher { rank, size, local_rank } in LAUNCHERS {
            assert_eq!(launch(&[(rank, "0"), (size, "1")]), alone);
            assert_eq!(launch(&[(size, "1")]), alone);
            assert_eq!(launch(&[(size, ""), (rank, ""), (local_rank, "")]), alone);
            assert_eq!(launch(&[(rank, "0"), (size, "1"), (local_rank, "3")]).map(|launch| launch.local_rank), Ok(3));
        }
    }

    #[test]
    fn a_missing_local_rank_follows_from_the_rank() {
        for Launcher { rank, size, .. } in LAUNCHERS {
            assert_eq!(launch(&[(rank, "5"), (size, "8")]), Ok(Launch { rank: 5, size: 8, local_rank: 5 }));
        }
    }

    #[test]
    fn half_an_environment_is_an_error() {
        let error = launch(&[("SLURM_LOCALID", "0"), ("SLURM_STEP_NUM_TASKS", "2")]).unwrap_err();
        assert!(error.contains("SLURM_PROCID"), "{error}");
        let error = launch(&[("RANK", "2"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")]).unwrap_err();
        assert!(error.contains("RANK"), "{error}");
        let error = launch(&[("RANK", "one"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")]).unwrap_err();
        assert!(error.contains("one"), "{error}");
        let error = launch(&[("RANK", "0"), ("WORLD_SIZE", "two")]).unwrap_err();
        assert!(error.contains("WORLD_SIZE") && error.contains("two"), "{error}");
    }
}
