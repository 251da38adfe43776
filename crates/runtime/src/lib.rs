//! Pods and containers on this machine, behind the verbs of the CRI.
//!
//! [`Runtime`] is the seam between the node and whatever runs containers. The messages in [`cri`] carry the names and
//! meanings of the CRI's (`runtime.v1`), as plain structs.
//!
//! Does not know: the Kubernetes API, pods' restart policies, probes, volumes. A container that ended stays ended: who
//! wants another creates another.

pub mod config;
pub mod cri;

pub use config::*;
pub use cri::*;

// The embedded runtime's entry points (being written):
//   EmbeddedRuntime::open(RuntimeConfig) -> Result<EmbeddedRuntime> (async; Clone; implements Runtime)
//   EmbeddedRuntime::import_images(path: &Path) -> Result<Vec<Image>>     OCI layout or `docker save` tar
//   EmbeddedRuntime::ensure_hello_image(exe: &Path) -> Result<Image>      skiff.local/hello:latest
//   shim_main(args) -> !                                                  for `skiff shim …`, before any thread
//   reset(&RuntimeConfig) -> Result<()>                                   removes all of it from the machine
//   doctor() -> Vec<Check>
