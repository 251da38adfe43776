//! Pages of a state.

use std::ops::Bound;
use std::sync::Arc;

use super::view::View;
use super::{Config, Entry, ListPage, ListParams, Selection};

/// The page of `params` in this state.
pub(super) fn page(view: &View, config: &Config, params: &ListParams) -> ListPage {
    let selection = &params.selection;
    let limit = if params.limit == 0 { usize::MAX } else { params.limit };
    let mut selected = objects(view, config, selection, params.start_after.as_deref());
    let entries: Vec<_> = selected.by_ref().take(limit).cloned().collect();
    let next = selected.next();
    let countable = selection.matcher.is_none() && selection.field.is_none() && selection.name.is_none();
    let remaining = next.filter(|_| countable).map(|_| 1 + selected.count());
    ListPage {
        revision: view.revision,
        entries,
        more: next.is_some(),
        remaining,
    }
}

/// The selected objects after a key, in key order.
pub(super) fn objects<'a>(
    view: &'a View,
    config: &Config,
    selection: &'a Selection,
    after: Option<&str>,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    let (scan, exact) = scan_prefix(config, selection);
    let start = match after {
        Some(after) if *after >= *scan => Bound::Excluded(after.to_owned()),
        _ => Bound::Included(scan.clone()),
    };
    // The iterator looks at its bounds as it goes; one key, or none, is better looked up.
    let one = exact.then(|| {
        view.objects
            .get(scan.as_str())
            .filter(|_| !matches!(start, Bound::Excluded(_)))
    });
    let many = (!exact).then(|| from(view, &start).take_while(move |entry| entry.key().starts_with(&scan)));
    one.flatten()
        .into_iter()
        .chain(many.into_iter().flatten())
        .filter(|entry| selection.matches(entry))
}

fn from<'a>(view: &'a View, start: &Bound<String>) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + Send + 'a> {
    let start: Bound<Arc<str>> = match start {
        Bound::Included(key) => Bound::Included(key.as_str().into()),
        Bound::Excluded(key) => Bound::Excluded(key.as_str().into()),
        Bound::Unbounded => Bound::Unbounded,
    };
    Box::new(
        view.objects
            .range::<Arc<str>, _>((start, Bound::Unbounded))
            .map(|(_, entry)| entry),
    )
}

/// The beginning of all selected keys, and whether it is a whole key.
fn scan_prefix(config: &Config, selection: &Selection) -> (String, bool) {
    let prefix = &config.prefix;
    match (&selection.namespace, &selection.name) {
        (_, Some(name)) if !config.namespaced => (format!("{prefix}{name}"), true),
        (Some(namespace), Some(name)) => (format!("{prefix}{namespace}/{name}"), true),
        (Some(namespace), None) if config.namespaced => (format!("{prefix}{namespace}/"), false),
        _ => (prefix.clone(), false),
    }
}
