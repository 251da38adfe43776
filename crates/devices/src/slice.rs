//! Resource slices, as they are searched.

use std::collections::BTreeMap;
use std::fmt;

use api::{Quantity, Value, meta};

use crate::Node;
use crate::attribute::Attribute;
use crate::taint::Taint;

/// What tells a device from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// The driver that manages it.
    pub driver: String,
    /// Its pool.
    pub pool: String,
    /// Its name in the pool.
    pub device: String,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.device)
    }
}

/// Counters by their names.
pub(crate) type Counters = BTreeMap<String, Quantity>;

/// Where something can be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Place {
    /// Nobody says.
    #[default]
    Unknown,
    Node(String),
    All,
    Selected(Value),
}

impl Place {
    fn of(value: &Value) -> Place {
        match value["nodeName"].as_str().unwrap_or("") {
            "" if value["allNodes"] == true => Place::All,
            "" if value["nodeSelector"].is_object() => Place::Selected(value["nodeSelector"].clone()),
            "" => Place::Unknown,
            name => Place::Node(name.to_owned()),
        }
    }

    pub(crate) fn has(&self, node: &dyn Node) -> bool {
        match self {
            Place::Unknown => false,
            Place::Node(name) => name == node.name(),
            Place::All => true,
            Place::Selected(selector) => node.selected_by(selector),
        }
    }
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    /// Its name in the pool.
    pub name: String,
    /// Attributes by name, with or without a domain.
    pub attributes: BTreeMap<String, Attribute>,
    /// Capacities by name, with or without a domain.
    pub capacity: BTreeMap<String, Quantity>,
    /// What keeps claims from it.
    pub taints: Vec<Taint>,
    /// Whether several claims may share it.
    pub shared: bool,
    pub(crate) consumes: Vec<(String, Counters)>,
    pub(crate) place: Place,
    /// Whether a pod is bound to it only under conditions.
    pub(crate) conditional: bool,
}

/// A resource slice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// The pool.
    pub pool: String,
    /// The devices in it.
    pub devices: Vec<Device>,
    pub(crate) generation: i64,
    /// How many slices the pool has.
    pub(crate) count: i64,
    pub(crate) place: Place,
    /// Whether each device says where it is.
    pub(crate) by_device: bool,
    pub(crate) counter_sets: BTreeMap<String, Counters>,
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or("").to_owned()
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn counters(value: &Value) -> Counters {
    quantities(&value["counters"])
}

/// Quantities by name, each in a field `value`; those that are none are left out.
fn quantities(value: &Value) -> Counters {
    let entries = value.as_object().into_iter().flatten();
    let read = entries.filter_map(|(name, entry)| Some((name.clone(), entry["value"].as_str()?.parse().ok()?)));
    read.collect()
}

impl Device {
    fn of(value: &Value) -> Device {
        let attributes = value["attributes"].as_object().into_iter().flatten();
        let consumed = items(value, "consumesCounters").iter();
        Device {
            name: text(value, "name"),
            attributes: attributes
                .filter_map(|(name, value)| Some((name.clone(), Attribute::of(value)?)))
                .collect(),
            capacity: quantities(&value["capacity"]),
            taints: items(value, "taints").iter().map(Taint::of).collect(),
            shared: value["allowMultipleAllocations"] == true,
            consumes: consumed.map(|set| (text(set, "counterSet"), counters(set))).collect(),
            place: Place::of(value),
            conditional: !items(value, "bindingConditions").is_empty(),
        }
    }

    /// An attribute by its full name; those without a domain are of the driver's.
    pub(crate) fn attribute(&self, driver: &str, name: &str) -> Option<&Attribute> {
        self.attributes.get(name).or_else(|| {
            let (domain, id) = name.split_once('/')?;
            self.attributes.get(id).filter(|_| domain == driver)
        })
    }
}

impl Slice {
    /// Reads a ResourceSlice.
    pub fn of(object: &Value) -> Slice {
        let spec = &object["spec"];
        let sets = items(spec, "sharedCounters").iter();
        Slice {
            name: meta::name(object).to_owned(),
            driver: text(spec, "driver"),
            pool: text(&spec["pool"], "name"),
            devices: items(spec, "devices").iter().map(Device::of).collect(),
            generation: spec["pool"]["generation"].as_i64().unwrap_or(0),
            count: spec["pool"]["resourceSliceCount"].as_i64().unwrap_or(0),
            place: Place::of(spec),
            by_device: spec["perDeviceNodeSelection"] == true,
            counter_sets: sets.map(|set| (text(set, "name"), counters(set))).collect(),
        }
    }

    /// Adds taints that rules give to devices; `taint` tells those of one device.
    pub fn tainted(mut self, taint: impl Fn(&DeviceId) -> Vec<Taint>) -> Slice {
        for device in &mut self.devices {
            let id = DeviceId {
                driver: self.driver.clone(),
                pool: self.pool.clone(),
                device: device.name.clone(),
            };
            device.taints.extend(taint(&id));
        }
        self
    }

    pub(crate) fn has(&self, node: &dyn Node) -> bool {
        if self.by_device {
            return self.devices.iter().any(|device| device.place.has(node));
        }
        self.place.has(node)
    }

    pub(crate) fn id(&self, device: &Device) -> DeviceId {
        DeviceId {
            driver: self.driver.clone(),
            pool: self.pool.clone(),
            device: device.name.clone(),
        }
    }
}
