//! Hollow.
