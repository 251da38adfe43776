//! How much work a request is, in seats (`flowcontrol/request`): a list takes one for each hundred objects that are
//! looked at, anything else one.

use crate::request::{Query, RequestInfo};
use crate::state::State;

/// No request takes more.
pub(super) const MOST_SEATS: u32 = 10;
const OBJECTS_A_SEAT: usize = 100;

/// The seats of a request.
pub(crate) fn seats(state: &State, info: &RequestInfo, query: &Query) -> u32 {
    let initial = info.verb == "watch" && query.flag("sendInitialEvents");
    if info.verb != "list" && !initial {
        return 1;
    }
    let registry = state.registry.load();
    let Some(resource) = registry.get(&info.group, &info.version, &info.resource) else {
        return 1;
    };
    // All lists come from memory; a limited one looks at no more than it returns, unless it selects.
    let stored = resource.cache.stored();
    let selective = query.non_empty("labelSelector").is_some() || query.non_empty("fieldSelector").is_some();
    let limit = query.integer("limit").ok().flatten().unwrap_or(0);
    let looked_at = match usize::try_from(limit) {
        Ok(limit) if limit > 0 && !selective => stored.min(limit),
        _ => stored,
    };
    u32::try_from(looked_at.div_ceil(OBJECTS_A_SEAT))
        .unwrap_or(u32::MAX)
        .clamp(1, MOST_SEATS)
}
