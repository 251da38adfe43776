//! From a packet to its response.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dnszone::{Answer, answer};
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use tokio::sync::watch;

use crate::forward::{Forwarder, Wishes};
use crate::packet::{
    Parsed, Request, Response, Transport, encode, parse, wire_name, wire_records, zone_name, zone_type,
};
use crate::source::SharedZone;

/// What a packet needs.
pub(crate) enum Step {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask upstream, then send what [`Responder::finish`] gives.
    Forward(Box<Forward>),
    /// Nothing: not a query.
    Ignore,
}

/// A question for upstream servers, and what is known already.
pub(crate) struct Forward {
    request: Request,
    question: Query,
    /// Aliases that led here.
    prefix: Vec<Record>,
}

pub(crate) struct Responder {
    zone: SharedZone,
    synced: watch::Receiver<bool>,
    forwarder: Arc<Forwarder>,
    /// Spreads clients over the addresses of a name.
    turn: AtomicUsize,
}

impl Responder {
    pub fn new(zone: SharedZone, synced: watch::Receiver<bool>, forwarder: Arc<Forwarder>) -> Self {
        Responder {
            zone,
            synced,
            forwarder,
            turn: AtomicUsize::new(0),
        }
    }

    /// Answers from the zone or the cache, or says what to ask. Never waits.
    pub fn step(&self, packet: &[u8], transport: Transport) -> Step {
        let request = match parse(packet, transport) {
            Parsed::Request(request) => *request,
            Parsed::Reply(bytes) => return Step::Reply(bytes),
            Parsed::Garbage => return Step::Ignore,
        };
        let name = zone_name(request.query.name());
        let kind = zone_type(request.query.query_type());
        let found = {
            let zone = self.zone.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            answer(&zone, &name, kind)
        };
        let asked = request.query.name();
        let wire = |records: &[dnszone::Record]| wire_records(records, asked, &name);
        let mut response = Response::of(ResponseCode::NoError);
        response.authoritative = true;
        match found {
            Answer::NotAuthoritative => {
                let question = request.query.clone();
                return self.forward(Forward {
                    request,
                    question,
                    prefix: Vec::new(),
                });
            }
            _ if !*self.synced.borrow() => response = Response::of(ResponseCode::ServFail),
            Answer::NxDomain(soa) | Answer::NoData(soa) if wire(std::slice::from_ref(&soa)).is_none() => {
                response = Response::of(ResponseCode::ServFail);
            }
            Answer::NxDomain(soa) => {
                response.code = ResponseCode::NXDomain;
                response.authorities = wire(&[soa]).unwrap_or_default();
            }
            Answer::NoData(soa) => response.authorities = wire(&[soa]).unwrap_or_default(),
            Answer::Records {
                answers,
                additional,
                chase,
            } => match (wire(&answers), wire(&additional), chase) {
                (Some(answers), Some(additionals), None) => {
                    (response.answers, response.additionals) = (answers, additionals);
                    self.rotate(&mut response.answers);
                }
                (Some(prefix), _, Some(target)) => match wire_name(&target) {
                    Some(target) => {
                        let question = Query::query(target, request.query.query_type());
                        return self.forward(Forward {
                            request,
                            question,
                            prefix,
                        });
                    }
                    None => response = Response::of(ResponseCode::ServFail),
                },
                _ => response = Response::of(ResponseCode::ServFail),
            },
        }
        Step::Reply(encode(&request, response))
    }

    fn forward(&self, forward: Forward) -> Step {
        match self.forwarder.cached(&forward.question, wishes(&forward.request)) {
            Some(response) => Step::Reply(complete(&forward, response)),
            None => Step::Forward(Box::new(forward)),
        }
    }

    /// Asks upstream.
    pub async fn finish(&self, forward: Forward) -> Vec<u8> {
        let response = self.forwarder.ask(&forward.question, wishes(&forward.request)).await;
        complete(&forward, response)
    }

    /// Addresses take turns at the first place.
    fn rotate(&self, answers: &mut [Record]) {
        let is_address = |record: &Record| matches!(record.record_type(), RecordType::A | RecordType::AAAA);
        let Some(start) = answers.iter().position(is_address) else {
            return;
        };
        let addresses = &mut answers[start..];
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
        addresses.rotate_left(turn);
    }
}

fn wishes(request: &Request) -> Wishes {
    Wishes {
        dnssec_ok: request.edns.is_some_and(|edns| edns.dnssec_ok),
        checking_disabled: request.metadata.checking_disabled,
    }
}

fn complete(forward: &Forward, mut response: Response) -> Vec<u8> {
    if !forward.prefix.is_empty() {
        response.answers.splice(0..0, forward.prefix.iter().cloned());
        response.authentic = false;
    }
    encode(&forward.request, response)
}
