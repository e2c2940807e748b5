//! CPU and memory: from `[[vm]]` and from a short text such as `shared-cpu-2x:1gb`. Sources: fly-go
//! `machine_types.go`; flyctl `internal/appconfig/machines.go`, `toMachineGuest`.

use crate::fly::machine_config::MachineGuest;

use super::config::{AppConfig, Vm};
use super::size;

/// The default size: 1 CPU, 256 MB.
pub const DEFAULT_SIZE: &str = "shared-cpu-1x";

/// The default size with a GPU.
const DEFAULT_GPU_SIZE: &str = "performance-8x";

/// Every size by name.
pub const SIZES: [&str; 20] = [
    "shared-cpu-1x",
    "shared-cpu-2x",
    "shared-cpu-4x",
    "shared-cpu-6x",
    "shared-cpu-8x",
    "performance-1x",
    "performance-2x",
    "performance-4x",
    "performance-6x",
    "performance-8x",
    "performance-10x",
    "performance-12x",
    "performance-14x",
    "performance-16x",
    "a10",
    "l40s",
    "a100-40gb",
    "a100-80gb",
    "a100-pcie-40gb",
    "a100-sxm4-80gb",
];

/// Why there is no such size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// Fly.io has no size with this name.
    #[error("no machine size is called {0}; there are {names}", names = SIZES.join(", "))]
    UnknownSize(String),
    /// Not an amount such as `512mb` or `2gb`.
    #[error("{0} is not an amount of memory; write it like 512mb or 2gb, or as a number of MB")]
    BadMemory(String),
    /// No such number of CPUs of this kind.
    #[error("a machine has {allowed} {kind} CPUs, not {cpus}")]
    BadCpus {
        /// `shared` or `performance`.
        kind: String,
        /// The numbers that there are.
        allowed: String,
        /// Requested number.
        cpus: u32,
    },
    /// Memory outside of the bounds or steps for this number of CPUs.
    #[error(
        "{cpus} {kind} CPUs may have {lowest} to {highest} MB of memory in steps of {step}, not {memory} MB"
    )]
    MemoryOutOfBounds {
        /// `shared` or `performance`.
        kind: String,
        /// Number of CPUs.
        cpus: u32,
        /// Requested memory, in MB.
        memory: u32,
        /// Least, in MB.
        lowest: u32,
        /// Most, in MB.
        highest: u32,
        /// Step, in MB.
        step: u32,
    },
}

/// Parses a size with optional memory: `shared-cpu-1x`, `shared-cpu-2x:1gb`, `performance-2x:8192`.
///
/// This is the notation of `spec.deploy.fallbackSizes`.
pub fn parse_size(text: &str) -> Result<MachineGuest, GuestError> {
    let (name, memory) = match text.split_once(':') {
        Some((name, memory)) => (name, Some(memory)),
        None => (text, None),
    };
    let mut guest = preset(name)?;
    if let Some(memory) = memory {
        guest.memory_mb = Some(memory_mb(memory)?);
    }
    check_limits(&guest)?;
    Ok(guest)
}

/// The size that `[[vm]]` describes: the named size, overridden by memory and then by single
/// values.
pub(super) fn of_vm(vm: &Vm) -> Result<MachineGuest, GuestError> {
    let size = match (&vm.size, &vm.guest.gpu_kind) {
        (Some(size), _) => size.as_str(),
        (None, Some(_)) => DEFAULT_GPU_SIZE,
        (None, None) => DEFAULT_SIZE,
    };
    let base = preset(size)?;
    let memory = match &vm.memory {
        Some(text) => Some(memory_mb(text)?),
        None => base.memory_mb,
    };
    let own = vm.guest.clone();
    Ok(MachineGuest {
        cpu_kind: own.cpu_kind.or(base.cpu_kind),
        cpus: own.cpus.or(base.cpus),
        memory_mb: own.memory_mb.or(memory),
        gpus: own.gpus.or(base.gpus),
        gpu_kind: own.gpu_kind.or(base.gpu_kind),
        ..own
    })
}

fn preset(name: &str) -> Result<MachineGuest, GuestError> {
    MachineGuest::preset(name).ok_or_else(|| GuestError::UnknownSize(name.to_owned()))
}

fn memory_mb(text: &str) -> Result<u32, GuestError> {
    size::memory_mb(text)
        .and_then(|mb| u32::try_from(mb).ok())
        .filter(|mb| *mb > 0)
        .ok_or_else(|| GuestError::BadMemory(text.to_owned()))
}

/// The numbers of CPUs that a machine can have. Source: fly-go `machine_types.go`, the presets.
fn cpu_counts(kind: &str) -> Option<&'static [u32]> {
    match kind {
        "shared" => Some(&[1, 2, 4, 6, 8]),
        "performance" => Some(&[1, 2, 4, 6, 8, 10, 12, 14, 16]),
        _ => None,
    }
}

/// Whether there are machines with this number of CPUs, and the memory is allowed for them.
pub fn check_limits(guest: &MachineGuest) -> Result<(), GuestError> {
    // What is absent is a shared CPU to Fly.io.
    let kind = guest.cpu_kind.as_deref().unwrap_or("shared");
    let cpus = guest.cpus.unwrap_or(1);
    let Some(counts) = cpu_counts(kind) else {
        return Ok(());
    };
    if !counts.contains(&cpus) {
        let allowed: Vec<String> = counts.iter().map(u32::to_string).collect();
        return Err(GuestError::BadCpus {
            kind: kind.to_owned(),
            allowed: allowed.join(", "),
            cpus,
        });
    }
    let Some(memory) = guest.memory_mb else {
        return Ok(());
    };
    let (lowest, highest, step) = match kind {
        "shared" => (256, 2048, 256),
        _ => (2048, 8192, 1024),
    };
    let (lowest, highest) = (cpus.saturating_mul(lowest), cpus.saturating_mul(highest));
    if memory < lowest || memory > highest || !memory.is_multiple_of(step) {
        return Err(GuestError::MemoryOutOfBounds {
            kind: kind.to_owned(),
            cpus,
            memory,
            lowest,
            highest,
            step,
        });
    }
    Ok(())
}

impl AppConfig {
    /// The size of a process group; `None` if `fly.toml` has none, so that an existing machine
    /// keeps its size.
    pub fn guest(&self, group: &str) -> Result<Option<MachineGuest>, GuestError> {
        let Some(vm) = self.vm_of(group) else {
            return Ok(None);
        };
        let mut guest = of_vm(vm)?;
        // The top level takes precedence in flyctl, which is undocumented.
        if self.host_dedication_id.is_some() {
            guest
                .host_dedication_id
                .clone_from(&self.host_dedication_id);
        }
        Ok(Some(guest))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_listed_size_is_a_preset_within_its_own_limits() {
        for name in SIZES {
            let guest = parse_size(name).unwrap();
            assert!(guest.memory_mb.is_some(), "{name}");
        }
    }

    #[test]
    fn fallback_sizes_take_memory_after_a_colon() {
        for (text, cpus, memory) in [
            ("shared-cpu-1x", 1, 256),
            ("shared-cpu-2x:1gb", 2, 1024),
            ("shared-cpu-2x:768", 2, 768),
            ("performance-2x:8gb", 2, 8192),
        ] {
            let guest = parse_size(text).unwrap();
            assert_eq!((guest.cpus, guest.memory_mb), (Some(cpus), Some(memory)));
        }
    }

    #[test]
    fn impossible_sizes_say_what_is_possible() {
        for (text, message) in [
            (
                "shared-cpu-3x",
                "no machine size is called shared-cpu-3x; there are shared-cpu-1x",
            ),
            ("", "no machine size is called ; there are shared-cpu-1x"),
            ("shared-cpu-1x:lots", "lots is not an amount of memory"),
            ("shared-cpu-1x:0", "0 is not an amount of memory"),
            (
                "shared-cpu-1x:4gb",
                "1 shared CPUs may have 256 to 2048 MB of memory in steps of 256, not 4096 MB",
            ),
            ("shared-cpu-1x:300", "steps of 256, not 300 MB"),
            (
                "performance-1x:1gb",
                "2048 to 8192 MB of memory in steps of 1024, not 1024 MB",
            ),
        ] {
            let error = parse_size(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
