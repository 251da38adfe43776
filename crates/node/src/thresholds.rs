//! When the machine counts as short of something (`--eviction-hard` of the kubelet,
//! pkg/kubelet/eviction/threshold_notifier.go and helpers.go).

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use podlife::amount;

use crate::machine::Filesystem;

/// How much is to be left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left {
    /// So many bytes, files or processes.
    Amount(u64),
    /// A part of all there is.
    Percent(f64),
}

impl Left {
    /// Whether so much is too little.
    pub(crate) fn is_short(self, left: u64, all: u64) -> bool {
        match self {
            Left::Amount(amount) => all > 0 && left < amount,
            Left::Percent(percent) => all > 0 && (left as f64) < all as f64 * percent / 100.0,
        }
    }

    /// An amount of things that are counted, without a unit.
    pub(crate) fn in_numbers(self) -> String {
        match self {
            Left::Amount(amount) => amount.to_string(),
            percent => percent.to_string(),
        }
    }
}

impl Thresholds {
    /// The threshold that the file system's bytes are below.
    pub(crate) fn met_disk(&self, found: &Filesystem) -> Option<Left> {
        let all = [Some(self.disk), self.image_disk];
        let short = |left: &Left| left.is_short(found.available, found.capacity);
        all.into_iter().flatten().find(short)
    }

    /// The threshold that the file system's files are below.
    pub(crate) fn met_inodes(&self, found: &Filesystem) -> Option<Left> {
        let all = [Some(self.inodes), self.image_inodes];
        let short = |left: &Left| left.is_short(found.inodes_free, found.inodes);
        all.into_iter().flatten().find(short)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Left::Amount(amount) if *amount >= 1 << 20 => write!(f, "{}Mi", amount >> 20),
            Left::Amount(amount) => write!(f, "{amount}"),
            Left::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Of each thing that can become short. Images lie on the same file system as everything else, so what is left of it for
/// them only counts where it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Memory.
    pub memory: Left,
    /// The file system.
    pub disk: Left,
    /// Its files.
    pub inodes: Left,
    /// The file system, as that of the images (`imagefs`, `containerfs`).
    pub image_disk: Option<Left>,
    /// Its files, as that of the images.
    pub image_inodes: Option<Left>,
    /// Processes.
    pub pids: Left,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            memory: Left::Amount(100 << 20),
            disk: Left::Percent(10.0),
            inodes: Left::Percent(5.0),
            image_disk: None,
            image_inodes: None,
            pids: Left::Amount(100),
        }
    }
}

/// Why a list of thresholds cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{text:?} is no threshold such as memory.available<100Mi or nodefs.available<10%: {message}")]
pub struct ThresholdError {
    text: String,
    message: &'static str,
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    /// As the kubelet takes it: `memory.available<100Mi,nodefs.available<10%`. What is not named keeps its default.
    fn from_str(text: &str) -> Result<Thresholds, ThresholdError> {
        let mut all = Thresholds::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let failed = |message| ThresholdError {
                text: part.to_owned(),
                message,
            };
            let (signal, left) = part.split_once('<').ok_or_else(|| failed("there is no <"))?;
            let left = left_of(left).ok_or_else(|| failed("it has no amount or percentage"))?;
            let place = match signal {
                "memory.available" => &mut all.memory,
                "nodefs.available" => &mut all.disk,
                "nodefs.inodesFree" => &mut all.inodes,
                "pid.available" => &mut all.pids,
                "imagefs.available" | "containerfs.available" => all.image_disk.insert(left),
                "imagefs.inodesFree" | "containerfs.inodesFree" => all.image_inodes.insert(left),
                _ => return Err(failed("the signal is not known")),
            };
            *place = left;
        }
        Ok(all)
    }
}

fn left_of(text: &str) -> Option<Left> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().ok()?;
        return (0.0..=100.0).contains(&percent).then_some(Left::Percent(percent));
    }
    api::Quantity::from_str(text).ok()?;
    let amount = amount::value(&Quantity(text.to_owned()));
    u64::try_from(amount).ok().map(Left::Amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kubelet_takes_them() {
        let read = |text: &str| text.parse::<Thresholds>();
        assert_eq!(read(""), Ok(Thresholds::default()));
        let some = read("memory.available<1Gi, nodefs.available<2.5%").unwrap();
        assert_eq!(some.memory, Left::Amount(1 << 30));
        assert_eq!(some.disk, Left::Percent(2.5));
        assert_eq!(some.inodes, Thresholds::default().inodes);
        let images = read("imagefs.available<15%,imagefs.inodesFree<7").unwrap();
        assert_eq!(images.image_disk, Some(Left::Percent(15.0)));
        assert_eq!(images.image_inodes, Some(Left::Amount(7)));
        for wrong in [
            "memory.available",
            "memory.available<x",
            "disk<1%",
            "nodefs.available<101%",
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn images_lie_on_the_same_file_system() {
        let disk = Filesystem {
            capacity: 100,
            available: 12,
            inodes: 100,
            inodes_free: 6,
        };
        let mut least = Thresholds::default();
        assert_eq!((least.met_disk(&disk), least.met_inodes(&disk)), (None, None));
        least.image_disk = Some(Left::Percent(15.0));
        least.image_inodes = Some(Left::Amount(7));
        assert_eq!(least.met_disk(&disk), Some(Left::Percent(15.0)));
        assert_eq!(least.met_inodes(&disk), Some(Left::Amount(7)));
    }

    #[test]
    fn short() {
        assert!(Left::Percent(10.0).is_short(9, 100) && !Left::Percent(10.0).is_short(10, 100));
        assert!(Left::Amount(100).is_short(99, 1000) && !Left::Amount(100).is_short(100, 1000));
        assert!(!Left::Amount(100).is_short(0, 0), "it is not known");
        assert_eq!(Left::Amount(100 << 20).to_string(), "100Mi");
    }
}
