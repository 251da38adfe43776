//! The group `storage.k8s.io`. Only its descriptors and tables are complete; storage classes are
//! validated too.

pub mod csi;
pub mod storage_class;
