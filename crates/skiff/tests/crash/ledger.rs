//! What was asked of the API, and what it acknowledged.

use std::collections::BTreeMap;

use client::{Client, ClientError, DeleteParams, ListParams, Object, WriteParams};
use serde_json::Value;

use super::workload::NAMESPACE;

/// How far an object is, as a client knows that may have lost answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Its creation was sent: it is there, or not.
    Creating,
    /// It is there.
    Created { uid: String },
    /// Its deletion was sent: it is there, or deleted.
    Deleting { uid: String },
    /// It is gone, or waits for the end of its grace period.
    Deleted { uid: String },
}

/// The objects of a kind that one writer writes, by name. No name is used twice.
#[derive(Debug, Default)]
pub struct Ledger {
    objects: BTreeMap<String, State>,
    pub acknowledged: u64,
}

/// The server is gone, and with it the answer.
pub struct Unanswered;

fn answered<T>(result: Result<T, ClientError>) -> Result<T, Unanswered> {
    match result {
        Ok(answer) => Ok(answer),
        Err(error) if error.status().is_some() => panic!("refused: {}", error.report()),
        Err(_) => Err(Unanswered),
    }
}

impl Ledger {
    /// Those that are there and were not asked to go.
    pub fn created(&self) -> Vec<String> {
        let created = self
            .objects
            .iter()
            .filter(|(_, state)| matches!(state, State::Created { .. }));
        created.map(|(name, _)| name.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.created().len()
    }

    /// Of an object that this ledger knows: whether its container may be gone.
    pub fn may_be_deleted(&self, name: &str) -> bool {
        matches!(
            self.objects.get(name),
            Some(State::Deleting { .. } | State::Deleted { .. })
        )
    }

    pub async fn create<K: Object>(&mut self, client: &Client, name: &str, object: &Value) -> Result<(), Unanswered> {
        assert!(
            self.objects.insert(name.into(), State::Creating).is_none(),
            "{name} was used before"
        );
        let created: K = answered(
            client
                .of::<K>()
                .create(NAMESPACE, object, &WriteParams::default())
                .await,
        )?;
        self.objects.insert(name.into(), State::Created { uid: uid(&created) });
        self.acknowledged += 1;
        Ok(())
    }

    pub async fn delete<K: Object>(
        &mut self,
        client: &Client,
        name: &str,
        params: &DeleteParams,
    ) -> Result<(), Unanswered> {
        let State::Created { uid } = self.objects[name].clone() else {
            panic!("{name} is not there")
        };
        self.objects.insert(name.into(), State::Deleting { uid: uid.clone() });
        answered(client.of::<K>().delete(NAMESPACE, name, params).await)?;
        self.objects.insert(name.into(), State::Deleted { uid });
        self.acknowledged += 1;
        Ok(())
    }

    /// Compares with the API, and settles what was not answered by what is there.
    pub async fn verify<K: Object>(&mut self, client: &Client) {
        let list = client.list::<K>(NAMESPACE, &ListParams::default()).await.unwrap();
        let found: BTreeMap<String, K> = list
            .items
            .into_iter()
            .map(|object| (object.metadata().name.clone().unwrap(), object))
            .collect();
        let mut settled = BTreeMap::new();
        for (name, state) in std::mem::take(&mut self.objects) {
            let there = found.get(&name);
            let ends = there.is_some_and(|object| object.metadata().deletion_timestamp.is_some());
            let there = there.map(uid);
            let state = match state {
                State::Creating => there.map(|uid| State::Created { uid }),
                State::Created { uid } => {
                    assert_eq!(
                        there.as_ref(),
                        Some(&uid),
                        "the creation of {} {name} was acknowledged",
                        K::KIND
                    );
                    assert!(!ends, "nobody deleted {} {name}", K::KIND);
                    Some(State::Created { uid })
                }
                State::Deleting { uid } => {
                    assert!(
                        there.as_ref().is_none_or(|there| *there == uid),
                        "{} {name} is another one",
                        K::KIND
                    );
                    Some(if there.is_some() && !ends {
                        State::Created { uid }
                    } else {
                        State::Deleted { uid }
                    })
                }
                State::Deleted { uid } => {
                    let allowed = there.is_none_or(|there| ends && there == uid);
                    assert!(allowed, "the deletion of {} {name} was acknowledged", K::KIND);
                    Some(State::Deleted { uid })
                }
            };
            settled.extend(state.map(|state| (name, state)));
        }
        self.objects = settled;
    }
}

fn uid<K: Object>(object: &K) -> String {
    object.metadata().uid.clone().unwrap()
}
