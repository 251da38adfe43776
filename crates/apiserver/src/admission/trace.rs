//! What the plugins of one request tell each other (upstream `admission/reinvocation.go`).

use std::collections::{BTreeSet, HashMap};

use api::Value;
use parking_lot::Mutex;

/// The state of one request's admission, shared by both phases.
#[derive(Debug, Default)]
pub(crate) struct Trace(Mutex<Rounds>);

#[derive(Debug, Default)]
struct Rounds {
    wanted: bool,
    second: bool,
    plugins: HashMap<&'static str, Round>,
}

/// What a plugin that calls out remembers between the rounds, by ids of what it called.
#[derive(Debug, Default)]
struct Round {
    last_output: Option<Value>,
    reinvocable: BTreeSet<String>,
    again: BTreeSet<String>,
}

impl Trace {
    /// Begins the second round if somebody asked for it.
    pub fn begin_reinvocation(&self) -> bool {
        let mut rounds = self.0.lock();
        rounds.second = rounds.wanted;
        rounds.second
    }

    /// Whether this is the second round.
    pub fn is_reinvocation(&self) -> bool {
        self.0.lock().second
    }

    /// Called by a plugin before its calls: a second round repeats all of the plugin's earlier calls
    /// that may be, if others have changed the object since.
    pub fn enter(&self, plugin: &'static str, object: &Value) {
        let mut rounds = self.0.lock();
        let second = rounds.second;
        let round = rounds.plugins.entry(plugin).or_default();
        if second && round.last_output.as_ref() != Some(object) {
            round.require_again();
        }
    }

    /// Called by a plugin after its calls, with what became of the object.
    pub fn leave(&self, plugin: &'static str, object: &Value) {
        let mut rounds = self.0.lock();
        rounds.plugins.entry(plugin).or_default().last_output = Some(object.clone());
    }

    /// Whether the second round calls this one.
    pub fn calls_again(&self, plugin: &'static str, id: &str) -> bool {
        let rounds = self.0.lock();
        rounds.plugins.get(plugin).is_some_and(|round| round.again.contains(id))
    }

    /// A call changed the object: what was called before it is to be called again.
    pub fn changed(&self, plugin: &'static str) {
        let mut rounds = self.0.lock();
        rounds.plugins.entry(plugin).or_default().require_again();
        rounds.wanted = true;
    }

    /// A call was made that may be repeated.
    pub fn called(&self, plugin: &'static str, id: &str) {
        let mut rounds = self.0.lock();
        rounds
            .plugins
            .entry(plugin)
            .or_default()
            .reinvocable
            .insert(id.to_owned());
    }
}

impl Round {
    fn require_again(&mut self) {
        self.again.append(&mut self.reinvocable);
    }
}
