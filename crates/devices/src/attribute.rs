//! Attributes of devices.

use api::Value;

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `int`
    Int(i64),
    /// `bool`
    Bool(bool),
    /// `string`
    Text(String),
    /// `version`, by semver.org.
    Version(String),
}

impl Attribute {
    /// Reads a `DeviceAttribute`; none if its type is not known.
    pub fn of(value: &Value) -> Option<Attribute> {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        value["int"]
            .as_i64()
            .map(Attribute::Int)
            .or_else(|| value["bool"].as_bool().map(Attribute::Bool))
            .or_else(|| text("string").map(Attribute::Text))
            .or_else(|| text("version").map(Attribute::Version))
    }
}
