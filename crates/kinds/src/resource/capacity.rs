//! Capacities of devices, and how they may be asked for.

use api::field::{Error, Path};
use api::{Quantity, Value};

use super::items;
use crate::tree;

const MAX_OPTIONS: usize = 10;

/// Whether a device can be given to several claims at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Single,
    Multiple,
}

/// A capacity of a device.
pub(super) fn capacity(capacity: &Value, sharing: Sharing, path: &Path) -> Vec<Error> {
    let path = path.child("requestPolicy");
    let Some(policy) = tree::at(capacity, "requestPolicy") else {
        return Vec::new();
    };
    if sharing == Sharing::Single {
        return vec![Error::forbidden(&path, "allowMultipleAllocations must be true")];
    }
    let most = quantity(capacity, "value").unwrap_or_else(Quantity::zero);
    let values = tree::list(policy, "validValues");
    let range = tree::at(policy, "validRange");
    let default = quantity(policy, "default");
    match (values.is_empty(), range) {
        (false, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            vec![Error::forbidden(&path, detail)]
        }
        (false, None) => match default {
            None => vec![Error::required(
                &path.child("default"),
                "required when validValues is defined",
            )],
            Some(default) => valid_values(values, &default, &most, &path.child("validValues")),
        },
        (true, Some(range)) => match default {
            None => vec![Error::required(
                &path.child("default"),
                "required when validRange is defined",
            )],
            Some(default) => valid_range(range, &default, &most, &path.child("validRange")),
        },
        (true, None) => Vec::new(),
    }
}

fn quantity(holder: &Value, field: &str) -> Option<Quantity> {
    tree::at(holder, field).and_then(tree::quantity)
}

fn shown(path: &Path, value: &Quantity, detail: String) -> Error {
    Error::invalid(path, value.to_string(), detail)
}

fn valid_values(values: &[Value], default: &Quantity, most: &Quantity, path: &Path) -> Vec<Error> {
    let parsed: Vec<Quantity> = values.iter().filter_map(tree::quantity).collect();
    let mut errors = Vec::new();
    for (index, pair) in parsed.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let detail = "values must be sorted in ascending order";
            errors.push(shown(&path.index(index + 1), &pair[1], detail.to_owned()));
        }
    }
    let whole: Vec<i64> = parsed.iter().map(Quantity::value).collect();
    errors.extend(items(values, MAX_OPTIONS, path, |value, path| {
        let option = tree::quantity(value).filter(|option| option > most);
        let too_large =
            option.map(|option| shown(path, &option, format!("option is larger than capacity value: {most}")));
        too_large.into_iter().collect()
    }));
    for (index, value) in whole.iter().enumerate().take(MAX_OPTIONS) {
        if whole[..index].contains(value) {
            errors.push(Error::duplicate(&path.index(index), value.to_string()));
        }
    }
    if !parsed.contains(default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(shown(path, default, detail.to_owned()));
    }
    errors
}

fn valid_range(range: &Value, default: &Quantity, most: &Quantity, path: &Path) -> Vec<Error> {
    let (min_path, max_path, step_path) = (path.child("min"), path.child("max"), path.child("step"));
    let Some(min) = quantity(range, "min") else {
        return vec![Error::required(&min_path, "required when validRange is defined")];
    };
    let max = quantity(range, "max");
    let mut errors = Vec::new();
    if min > *most {
        errors.push(shown(
            &min_path,
            &min,
            format!("min is larger than capacity value: {most}"),
        ));
    }
    if *default < min {
        errors.push(shown(&min_path, default, format!("default is less than min: {min}")));
    }
    if let Some(max) = &max {
        if min > *max {
            errors.push(shown(&max_path, &min, format!("min is larger than max: {max}")));
        }
        if max > most {
            errors.push(shown(
                &max_path,
                max,
                format!("max is larger than capacity value: {most}"),
            ));
        }
        if default > max {
            errors.push(shown(&max_path, default, format!("default is more than max: {max}")));
        }
    }
    if let Some(step) = quantity(range, "step") {
        let first = min.add(&step);
        if first > *most {
            let detail = format!("one step {first} is larger than capacity value: {most}");
            errors.push(shown(&step_path, &step, detail));
        }
        for value in [Some(default), max.as_ref()].into_iter().flatten() {
            let (width, above) = (step.value(), value.value() - min.value());
            if width == 0 || above % width != 0 {
                let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
                errors.push(shown(&step_path, value, detail));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(policy: Value) -> Vec<String> {
        let capacity = json!({"value": "10", "requestPolicy": policy});
        let errors = self::capacity(&capacity, Sharing::Multiple, &Path::new("c"));
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn policies_allow_what_there_is() {
        assert_eq!(
            fields(json!({"default": "2", "validValues": ["1", "2"]})),
            Vec::<String>::new()
        );
        assert_eq!(
            fields(json!({"default": "3", "validValues": ["2", "1", "20"]})),
            [
                "c.requestPolicy.validValues[1]",
                "c.requestPolicy.validValues[2]",
                "c.requestPolicy.validValues"
            ]
        );
        let range = json!({"default": "2", "validRange": {"min": "1", "max": "9", "step": "1"}});
        assert_eq!(fields(range), Vec::<String>::new());
        let range = json!({"default": "2", "validRange": {"min": "1", "max": "20", "step": "3"}});
        assert_eq!(
            fields(range),
            [
                "c.requestPolicy.validRange.max",
                "c.requestPolicy.validRange.step",
                "c.requestPolicy.validRange.step"
            ]
        );
        assert_eq!(fields(json!({"validRange": {}})), ["c.requestPolicy.default"]);
        let capacity = json!({"value": "1", "requestPolicy": {}});
        assert_eq!(self::capacity(&capacity, Sharing::Single, &Path::new("c")).len(), 1);
    }
}
